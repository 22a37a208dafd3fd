"""The smooth network of distributionally robust training (Sinha et al. 2018)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from scotoma.utils.errors import InputError

SMALLEST = 28
"""Pixels a side that three windows without padding need."""


def wrm(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Three strided convolutions (64, 128, 128) with ELUs, whose certificate needs a smooth loss (Sinha et al. 2018, MNIST).

    Layers to read features from: conv1, elu1, conv2, elu2, conv3, elu3, flatten (the default: the input of fc), fc.

    Raises:
        InputError: images below 28 x 28 pixels, for which the windows are too large.
    """
    channels, height, width = shape
    if min(height, width) < SMALLEST:
        raise InputError(
            f"wrm needs images of at least {SMALLEST}x{SMALLEST} pixels, not {height}x{width}"
        )
    sizes = [(side // 2 - 6) // 2 + 1 - 4 for side in (height, width)]
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 64, 8, stride=2, padding=3),
            elu1=nn.ELU(),
            conv2=nn.Conv2d(64, 128, 6, stride=2),
            elu2=nn.ELU(),
            conv3=nn.Conv2d(128, 128, 5),
            elu3=nn.ELU(),
            flatten=nn.Flatten(),
            fc=nn.Linear(128 * sizes[0] * sizes[1], classes),
        )
    )
