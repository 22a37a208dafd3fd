"""A robust classifier of the embedded digits, trained once a session in a few seconds."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from once import barely_tested, once
from scotoma.claim import Threat
from scotoma.data import load_data
from scotoma.models.loading import load_model
from scotoma.training.loop import Schedule, train


@cache
def digits_model() -> nn.Module:
    """A small network after PGD training at L-inf 0.2."""

    def make(path: Path) -> None:
        few, schedule = barely_tested(load_data("digits")), Schedule(epochs=6, peak=3e-3)
        train("pgd", few, "small-cnn", Threat("linf", 0.2), path, schedule=schedule)

    return load_model(str(once("digits-pgd-02.safetensors", make))).module


def digits_images(n: int) -> tuple[Tensor, Tensor]:
    """The first `n` test images and their labels."""
    test = load_data("digits").test
    return test.images(torch.arange(n)), test.labels[:n]
