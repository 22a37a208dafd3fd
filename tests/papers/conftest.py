"""Reference models of the digits, so that a paper's items can be measured in seconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scotoma.models import ARCHITECTURES
from scotoma.models.checkpoint import save_checkpoint
from scotoma.papers.item import Context
from scotoma.reference import REFERENCES, Reference
from scotoma.training.loop import Schedule

LIMIT = 40


@pytest.fixture
def models(tmp_path, monkeypatch, digits_model) -> Path:
    """A folder with `digits-pgd`, and `digits-other` of the same kind with random weights."""
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(digits_model, folder / "digits-pgd.safetensors")
    torch.manual_seed(0)
    card = {"arch": "small-cnn", "shape": (1, 8, 8), "classes": 10}
    save_checkpoint(
        folder / "digits-other.safetensors", ARCHITECTURES["small-cnn"]((1, 8, 8), 10), card
    )
    for name in ("digits-pgd", "digits-other"):
        monkeypatch.setitem(
            REFERENCES, name, Reference("pgd", "digits", "small-cnn", "linf:0.1", Schedule(10))
        )
    return folder


@pytest.fixture
def context(tmp_path, models) -> Callable[..., Context]:
    """A context that attacks a few digits."""

    def make(**changes) -> Context:
        return Context(
            tmp_path / "runs", **{"attack": "fmn-linf", "limit": LIMIT, "models": models} | changes
        )

    return make
