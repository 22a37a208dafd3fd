"""Models that the tests of a session share, whatever the number of its processes."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from scotoma.data.dataset import ArraySplit, Dataset


def once(name: str, make: Callable[[Path], object]) -> Path:
    """Return the file `name` of this session, which the first process that needs it makes."""
    path = Path(os.environ["SCOTOMA_TESTS"]) / name
    with path.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            make(path)
    return path


def barely_tested(data: Dataset, images: int = 12) -> Dataset:
    """Return the data with few test images: training evaluates on them after every epoch."""
    test = data.test.images(torch.arange(images)).numpy()
    return replace(data, test=ArraySplit(test, data.test.labels[:images].numpy(), "few"))
