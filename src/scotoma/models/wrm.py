"""The smooth network of distributionally robust training."""

from __future__ import annotations

from torch import nn

from scotoma.models.layers import Shape, at_least, convolution, sequence

SMALLEST = 28
"""Shortest side, in pixels, that three windows without padding fit."""


def wrm(shape: Shape, classes: int) -> nn.Sequential:
    """Build three convolutions (64, 128, 128) with ELUs, since the certificate needs a smooth loss.

    Layers with features: conv1, elu1, conv2, elu2, conv3, elu3, flatten (the default), fc.

    Raises:
        InputError: the images are smaller than 28x28 pixels.

    Source: Sinha et al. 2018, MNIST.

    >>> wrm((1, 28, 28), classes=10).fc.in_features
    128
    """
    channels, *sides = at_least(SMALLEST, shape, "wrm")
    down, across = ((side // 2 - 6) // 2 + 1 - 4 for side in sides)
    return sequence(
        *convolution(channels, 64, 8, stride=2, padding=3, activation=nn.ELU),
        *convolution(64, 128, 6, stride=2, activation=nn.ELU),
        *convolution(128, 128, 5, activation=nn.ELU),
        nn.Flatten(),
        nn.Linear(128 * down * across, classes),
    )
