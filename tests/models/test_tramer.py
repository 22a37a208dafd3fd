"""Models A to D of ensemble adversarial training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scotoma.models import ARCHITECTURES
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
