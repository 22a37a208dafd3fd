"""Small networks that learn in seconds to minutes on one core: the judges of `scotoma.validity`.

They differ in how they read an image: strided windows, patches, and pooled 3x3 windows. All of them
normalise their batches, and none is an architecture that the papers defend.
"""

from __future__ import annotations

from torch import nn

from scotoma.models.layers import Shape, at_least, sequence
from scotoma.models.resnet import Residual, Standardise

SMALLEST = 4
"""Pixels a side that all of them need."""


def strided(shape: Shape, classes: int) -> nn.Sequential:
    """Build strided convolutions 24@5x5 and 48@3x3 with ELUs and a dense layer of 96.

    >>> strided((1, 28, 28), classes=10).fc1.in_features
    2352
    """
    channels, *sides = at_least(SMALLEST, shape, "judge-strided")
    down, across = (-(-side // 4) for side in sides)
    return sequence(
        Standardise(),
        *_normalised(channels, 24, 5, nn.ELU, stride=2),
        *_normalised(24, 48, 3, nn.ELU, stride=2),
        nn.Flatten(),
        nn.Linear(48 * down * across, 96),
        nn.ELU(),
        nn.Linear(96, classes),
    )


def patches(shape: Shape, classes: int, width: int = 48) -> nn.Sequential:
    """Build a linear map of patches, 4x4 or 2x2 on small images, and two residual convolutions.

    >>> patches((1, 28, 28), classes=10).fc.in_features
    2352
    """
    channels, *sides = at_least(SMALLEST, shape, "judge-patches")
    size = 2 if min(sides) < 16 else 4
    down, across = (side // size for side in sides)
    return sequence(
        Standardise(),
        nn.Conv2d(channels, width, size, size, bias=False),
        nn.BatchNorm2d(width),
        nn.GELU(),
        *(Residual(nn.Sequential(*_normalised(width, width, 3, nn.ReLU))) for _ in range(2)),
        nn.Flatten(),
        nn.Linear(width * down * across, classes),
    )


def pooled(shape: Shape, classes: int) -> nn.Sequential:
    """Build three convolutions (32, 64, 64), maximum pooling, and averages over four quarters.

    The averages, 256 features, are the layer in which `scotoma.validity` measures distances.

    >>> pooled((1, 28, 28), classes=10).fc.in_features
    256
    """
    channels = at_least(SMALLEST, shape, "judge-pooled")[0]
    return sequence(
        Standardise(),
        nn.Conv2d(channels, 32, 4, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        *_normalised(32, 64, 3, nn.ReLU),
        nn.MaxPool2d(2, ceil_mode=True),
        *_normalised(64, 64, 3, nn.ReLU),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(256, classes),
    )


def _normalised(
    inputs: int, outputs: int, size: int, activation: type[nn.Module], stride: int = 1
) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs), activation()
