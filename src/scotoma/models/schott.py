"""The baselines that analysis by synthesis is compared with (Schott et al. 2019, section 5; as in the authors' code)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from scotoma.models.binarise import Binarise
from scotoma.utils.errors import InputError

Shape = tuple[int, int, int]
FILTERS = ((20, 5, 1), (70, 4, 2), (256, 3, 2))
"""Channels, window and stride of the convolutions before the last, whose window is all that is left."""
SMALLEST = 20


def cnn(shape: Shape, classes: int) -> nn.Sequential:
    """Convolutions 20@5x5, 70@4x4 and 256@3x3 (the last two strided) with batch normalisation and ELUs, and one to the logits.

    On images smaller than 20x20 the first window is 3x3 and there is no third.

    Layers to read features from: conv1, norm1, elu1, conv2, norm2, elu2, conv3, norm3, elu3, flatten, fc.
    """
    return nn.Sequential(_layers(shape, classes))


def binary_cnn(shape: Shape, classes: int) -> nn.Sequential:
    """The same after `binarise`, with which it is trained as well."""
    layers = _layers(shape, classes)
    return nn.Sequential(OrderedDict(binarise=Binarise(), **layers))


def _layers(shape: Shape, classes: int) -> OrderedDict[str, nn.Module]:
    channels, *sides = shape
    if min(sides) < 8:
        raise InputError(
            f"--arch cnn: its filters need images of at least 8x8, these are {sides[0]}x{sides[1]}"
        )
    filters = FILTERS if min(sides) >= SMALLEST else ((FILTERS[0][0], 3, 1), FILTERS[1])
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (width, window, stride) in enumerate(filters, 1):
        layers[f"conv{number}"] = nn.Conv2d(channels, width, window, stride)
        layers[f"norm{number}"] = nn.BatchNorm2d(width)
        layers[f"elu{number}"] = nn.ELU()
        channels, sides = width, [(side - window) // stride + 1 for side in sides]
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels * sides[0] * sides[1], classes)
    return layers
