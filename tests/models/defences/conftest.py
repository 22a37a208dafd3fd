"""A small network of the digits, trained naturally, and test images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from once import barely_tested, once
from scotoma.models.loading import load_model
from scotoma.threat import Threat
from scotoma.training.loop import Schedule, train


@pytest.fixture(scope="session")
def network(digits) -> nn.Module:
    """A small-cnn, right on about 98 in 100 digits."""

    def make(path) -> None:
        schedule = Schedule(epochs=6, batch=64, peak=4e-3)
        few = barely_tested(digits)
        train("natural", few, "small-cnn", Threat("linf", 0.1), path, schedule=schedule)

    return load_model(str(once("digits-natural-for-defences.safetensors", make))).module


@pytest.fixture(scope="session")
def training(digits) -> tuple[Tensor, Tensor]:
    return digits.train.images(torch.arange(len(digits.train))), digits.train.labels


@pytest.fixture(scope="session")
def tested(digits) -> tuple[Tensor, Tensor]:
    return digits.test.images(torch.arange(200)), digits.test.labels[:200]
