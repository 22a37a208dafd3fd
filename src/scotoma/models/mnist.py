"""Convolutional networks that the papers train on MNIST.

Sources: wong-small, Wong and Kolter 2018; wong-large, Wong et al. 2018; wrm, Sinha et al. 2018;
tramer-a to tramer-d, Tramer et al. 2018, appendix A, and cnn and binary-cnn, Schott et al. 2019,
section 5, both as in the authors' code. `InputError` is raised for images that are too small.
"""

from __future__ import annotations

from itertools import chain, pairwise

from torch import nn

from scotoma.models.layers import Binarise, Shape, at_least, convolution, sequence

FILTERS = ((20, 5, 1), (70, 4, 2), (256, 3, 2))
"""Channels, window and stride of the convolutions of `cnn`; a dense layer follows."""
SMALLEST = 20
"""Shortest side, in pixels, that all of `FILTERS` fit."""


def wong_small(shape: Shape, classes: int) -> nn.Sequential:
    """Build two strided 4x4 convolutions (16, 32) and a dense layer of 100.

    Layers with features: conv1, relu1, conv2, relu2, fc1, relu3 (the default), fc2.

    >>> wong_small((1, 28, 28), classes=10).fc1.in_features
    1568
    """
    channels, height, width = shape
    return sequence(
        *convolution(channels, 16, 4, stride=2, padding=1),
        *convolution(16, 32, 4, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )


def wong_large(shape: Shape, classes: int) -> nn.Sequential:
    """Build four convolutions (32, 32, 64, 64), every other strided, and two dense layers of 512.

    Layers with features: conv1, relu1 ... conv4, relu4, fc1, relu5, fc2, relu6 (the default), fc3.

    >>> wong_large((1, 28, 28), classes=10).fc1.in_features
    3136
    """
    channels, height, width = shape
    return sequence(
        *convolution(channels, 32, 3, padding=1),
        *convolution(32, 32, 4, stride=2, padding=1),
        *convolution(32, 64, 3, padding=1),
        *convolution(64, 64, 4, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (width // 4), 512),
        nn.ReLU(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, classes),
    )


def wrm(shape: Shape, classes: int) -> nn.Sequential:
    """Build three convolutions (64, 128, 128) with ELUs, since the certificate needs a smooth loss.

    Layers with features: conv1, elu1, conv2, elu2, conv3, elu3, flatten (the default), fc.

    >>> wrm((1, 28, 28), classes=10).fc.in_features
    128
    """
    layers, outputs = _strided(shape, "wrm", nn.ELU)
    return sequence(*layers, nn.Flatten(), nn.Linear(outputs, classes))


def tramer_a(shape: Shape, classes: int) -> nn.Sequential:
    """Build model A: two 5x5 convolutions of 64, dropout 0.25, a dense layer of 128, dropout 0.5.

    Layers with features: conv1, relu1, conv2, relu2, fc1, relu3, dropout2 (the default), fc2.

    >>> tramer_a((1, 28, 28), classes=10).fc1.in_features
    25600
    """
    return _convolutions(at_least(9, shape, "tramer-a"), classes, filters=64, size=5)


def tramer_b(shape: Shape, classes: int) -> nn.Sequential:
    """Build model B: dropout 0.2 on the image, three convolutions (64, 128, 128), dropout 0.5.

    The convolutions are 8x8 and 6x6, both strided, and 5x5. Layers with features: conv1, relu1,
    conv2, relu2, conv3, relu3, dropout2, flatten (the default), fc.

    >>> tramer_b((1, 28, 28), classes=10).fc.in_features
    128
    """
    layers, outputs = _strided(shape, "tramer-b")
    last = nn.Linear(outputs, classes)
    return sequence(nn.Dropout(0.2), *layers, nn.Dropout(0.5), nn.Flatten(), last)


def tramer_c(shape: Shape, classes: int) -> nn.Sequential:
    """Build model C: 3x3 convolutions of 128 and 64, dropout 0.25, 128 dense units, dropout 0.5.

    Layers with features: conv1, relu1, conv2, relu2, fc1, relu3, dropout2 (the default), fc2.

    >>> tramer_c((1, 28, 28), classes=10).fc1.in_features
    36864
    """
    return _convolutions(at_least(5, shape, "tramer-c"), classes, filters=128, size=3)


def tramer_d(shape: Shape, classes: int) -> nn.Sequential:
    """Build model D: four dense layers of 300, each with dropout 0.5, and no convolution.

    Layers with features: fc1, relu1, dropout1 ... fc4, relu4, dropout4 (the default), fc5.

    >>> tramer_d((1, 28, 28), classes=10).fc1.in_features
    784
    """
    channels, height, width = shape
    sizes = [channels * height * width, 300, 300, 300, 300]
    dense = [(nn.Linear(*pair), nn.ReLU(), nn.Dropout(0.5)) for pair in pairwise(sizes)]
    return sequence(nn.Flatten(), *chain(*dense), nn.Linear(300, classes))


def cnn(shape: Shape, classes: int) -> nn.Sequential:
    """Build convolutions 20@5x5, 70@4x4/2 and 256@3x3/2 with batch normalisation and ELUs.

    For images below 20x20 the first window is 3x3 and there is no third convolution.

    Layers with features: conv1, norm1, elu1, conv2, norm2, elu2, conv3, norm3, elu3, flatten, fc.

    >>> cnn((1, 28, 28), classes=10).fc.in_features
    6400
    """
    return sequence(*_cnn(shape, classes))


def binary_cnn(shape: Shape, classes: int) -> nn.Sequential:
    """Build `cnn` after `Binarise`, with which it is trained as well.

    >>> [name for name, _ in binary_cnn((1, 8, 8), classes=10).named_children()][:2]
    ['binarise', 'conv1']
    """
    return sequence(Binarise(), *_cnn(shape, classes))


def _cnn(shape: Shape, classes: int) -> list[nn.Module]:
    channels, *sides = at_least(8, shape, "cnn")
    filters = FILTERS if min(sides) >= SMALLEST else ((FILTERS[0][0], 3, 1), FILTERS[1])
    layers: list[nn.Module] = []
    for width, window, stride in filters:
        layers += [nn.Conv2d(channels, width, window, stride), nn.BatchNorm2d(width), nn.ELU()]
        channels, sides = width, [(side - window) // stride + 1 for side in sides]
    return [*layers, nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], classes)]


def _convolutions(shape: Shape, classes: int, filters: int, size: int) -> nn.Sequential:
    """Build models A and C: convolutions of `filters` and 64, `size` pixels wide."""
    channels, height, width = shape
    lost = 2 * (size - 1)
    return sequence(
        *convolution(channels, filters, size),
        *convolution(filters, 64, size),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(64 * (height - lost) * (width - lost), 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, classes),
    )


def _strided(
    shape: Shape, arch: str, activation: type[nn.Module] = nn.ReLU
) -> tuple[list[nn.Module], int]:
    """Return convolutions 64@8x8/2, 128@6x6/2 and 128@5x5, and the number of their outputs."""
    channels, *sides = at_least(28, shape, arch)
    down, across = ((side // 2 - 6) // 2 + 1 - 4 for side in sides)
    layers = [
        *convolution(channels, 64, 8, stride=2, padding=3, activation=activation),
        *convolution(64, 128, 6, stride=2, activation=activation),
        *convolution(128, 128, 5, activation=activation),
    ]
    return layers, 128 * down * across
