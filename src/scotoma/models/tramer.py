"""The four MNIST networks of ensemble adversarial training.

Source: Tramer et al. 2018, appendix A, as in the authors' code. They raise `InputError` if the
images are smaller than the filters.
"""

from __future__ import annotations

from itertools import chain, pairwise

from torch import nn

from scotoma.models.layers import Shape, at_least, convolution, sequence


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
    channels, *sides = at_least(28, shape, "tramer-b")
    down, across = ((side // 2 - 6) // 2 + 1 - 4 for side in sides)
    return sequence(
        nn.Dropout(0.2),
        *convolution(channels, 64, 8, stride=2, padding=3),
        *convolution(64, 128, 6, stride=2),
        *convolution(128, 128, 5),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(128 * down * across, classes),
    )


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
