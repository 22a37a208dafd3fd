"""The MNIST networks of the papers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scotoma.models import ARCHITECTURES
from scotoma.models.mnist import wrm
from scotoma.utils.errors import InputError

MNIST = (1, 28, 28)


@pytest.mark.parametrize(
    ("arch", "parameters", "dropout"),
    [
        # by hand: weights and biases of each layer, in order
        (
            "tramer-a",
            (25 * 64 + 64) + (25 * 64 * 64 + 64) + (400 * 64 * 128 + 128) + 1290,
            [0.25, 0.5],
        ),
        (
            "tramer-b",
            (64 * 64 + 64) + (36 * 64 * 128 + 128) + (25 * 128 * 128 + 128) + 1290,
            [0.2, 0.5],
        ),
        (
            "tramer-c",
            (9 * 128 + 128) + (9 * 128 * 64 + 64) + (576 * 64 * 128 + 128) + 1290,
            [0.25, 0.5],
        ),
        ("tramer-d", (784 * 300 + 300) + 3 * (300 * 300 + 300) + 3010, [0.5] * 4),
    ],
)
def test_layers_are_those_of_the_paper(arch: str, parameters: int, dropout: list[float]):
    model = ARCHITECTURES[arch](MNIST, 10)
    assert sum(weight.numel() for weight in model.parameters()) == parameters
    assert [layer.p for layer in model if isinstance(layer, nn.Dropout)] == dropout
    images = torch.rand(3, *MNIST)
    assert model(images).shape == (3, 10)
    model.eval()
    assert torch.equal(model(images), model(images))


@pytest.mark.parametrize(
    ("arch", "smallest"), [("tramer-a", 9), ("tramer-b", 28), ("tramer-c", 5), ("tramer-d", 1)]
)
def test_the_smallest_images(arch: str, smallest: int):
    shape = (3, smallest, smallest + 3)
    assert ARCHITECTURES[arch](shape, 7)(torch.rand(2, *shape)).shape == (2, 7)
    if smallest > 1:
        with pytest.raises(InputError, match=f"{arch} needs .* at least {smallest}x{smallest} "):
            ARCHITECTURES[arch]((3, smallest - 1, 40), 7)


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
