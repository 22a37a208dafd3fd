"""The network of distributionally robust training."""

from __future__ import annotations

import pytest
import torch

from scotoma.models.mnist import wrm
from scotoma.utils.errors import InputError


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 29, 37)])
def test_it_takes_images_of_any_size_but_small_ones(shape):
    assert wrm(shape, 7)(torch.rand(2, *shape)).shape == (2, 7)


def test_on_mnist_the_last_map_is_one_pixel():
    model = wrm((1, 28, 28), 10)
    assert model[-1].in_features == 128
    assert model[:2](torch.rand(1, 1, 28, 28)).shape == (1, 64, 14, 14)


def test_small_images_are_refused():
    with pytest.raises(InputError, match="at least 28x28 pixels, not 8x8"):
        wrm((1, 8, 8), 10)
