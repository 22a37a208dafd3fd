"""The networks that analysis by synthesis is compared with.

Source: Schott et al. 2019, section 5, as in the authors' code.
"""

from __future__ import annotations

from torch import nn

from scotoma.models.binarise import Binarise
from scotoma.models.layers import Shape, at_least, sequence

FILTERS = ((20, 5, 1), (70, 4, 2), (256, 3, 2))
"""Channels, window and stride of the convolutions; a dense layer follows."""
SMALLEST = 20
"""Shortest side, in pixels, that all of `FILTERS` fit."""


def cnn(shape: Shape, classes: int) -> nn.Sequential:
    """Build convolutions 20@5x5, 70@4x4/2 and 256@3x3/2 with batch normalisation and ELUs.

    For images below 20x20 the first window is 3x3 and there is no third convolution.

    Layers with features: conv1, norm1, elu1, conv2, norm2, elu2, conv3, norm3, elu3, flatten, fc.

    Raises:
        InputError: the images are smaller than 8x8 pixels.

    >>> cnn((1, 28, 28), classes=10).fc.in_features
    6400
    """
    return sequence(*_layers(shape, classes))


def binary_cnn(shape: Shape, classes: int) -> nn.Sequential:
    """Build `cnn` after `Binarise`, with which it is trained as well.

    >>> [name for name, _ in binary_cnn((1, 8, 8), classes=10).named_children()][:2]
    ['binarise', 'conv1']
    """
    return sequence(Binarise(), *_layers(shape, classes))


def _layers(shape: Shape, classes: int) -> list[nn.Module]:
    channels, *sides = at_least(8, shape, "cnn")
    filters = FILTERS if min(sides) >= SMALLEST else ((FILTERS[0][0], 3, 1), FILTERS[1])
    layers: list[nn.Module] = []
    for width, window, stride in filters:
        layers += [nn.Conv2d(channels, width, window, stride), nn.BatchNorm2d(width), nn.ELU()]
        channels, sides = width, [(side - window) // stride + 1 for side in sides]
    return [*layers, nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], classes)]
