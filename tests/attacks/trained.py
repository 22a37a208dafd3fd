"""A robust classifier of the embedded digits, trained once a process in a few seconds."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from scotoma.claim import Threat
from scotoma.data import load_data
from scotoma.models.classifier import freeze
from scotoma.training.loop import Schedule, train


@cache
def digits_model() -> nn.Module:
    """A small network after PGD training at L-inf 0.2."""
    with tempfile.TemporaryDirectory() as folder:
        schedule = Schedule(epochs=6, peak=3e-3)
        model = train(
            "pgd",
            load_data("digits"),
            "small-cnn",
            Threat("linf", 0.2),
            Path(folder) / "digits.safetensors",
            schedule=schedule,
        )
    freeze(model)
    return model


def digits_images(n: int) -> tuple[Tensor, Tensor]:
    """The first `n` test images and their labels."""
    test = load_data("digits").test
    return test.images(torch.arange(n)), test.labels[:n]
