"""A small model and the data that it takes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.models import ARCHITECTURES


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_data("digits")


@pytest.fixture(scope="session")
def images(digits) -> Tensor:
    return digits.test.images(torch.arange(5))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(3)
    return ARCHITECTURES["small-cnn"]((1, 8, 8), 10)
