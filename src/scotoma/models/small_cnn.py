"""Networks of two convolutions with pooling and two dense layers."""

from __future__ import annotations

from torch import nn

from scotoma.models.layers import Shape, convolution, sequence


def small_cnn(shape: Shape, classes: int) -> nn.Sequential:
    """Build 3x3 convolutions (32, 64) and a dense layer of 128, which trains robustly in seconds.

    Layers with features: conv1, relu1, pool1, conv2, relu2, pool2, fc1, relu3 (the default), fc2.

    Args:
        shape: channels, height and width of the images, at least 4x4.
        classes: number of outputs.

    >>> small_cnn((1, 8, 8), classes=10).fc1.in_features
    256
    """
    return _network(shape, classes, size=3, width=128, ceil=False)


def madry_mnist(shape: Shape, classes: int) -> nn.Sequential:
    """Build the network of the MNIST challenge: 5x5 convolutions (32, 64), a dense layer of 1,024.

    Layers with features: those of `small_cnn`. The default, relu3, is h_fc1 in the challenge's code
    and the extractor of Zhang et al. 2019.

    Source: Madry et al. 2018.

    >>> madry_mnist((1, 28, 28), classes=10).fc1.in_features
    3136
    """
    return _network(shape, classes, size=5, width=1024, ceil=True)


def _network(shape: Shape, classes: int, size: int, width: int, ceil: bool) -> nn.Sequential:
    channels, *sides = shape
    down, across = (-(-side // 4) if ceil else side // 4 for side in sides)
    return sequence(
        *convolution(channels, 32, size, padding=size // 2),
        nn.MaxPool2d(2, ceil_mode=ceil),
        *convolution(32, 64, size, padding=size // 2),
        nn.MaxPool2d(2, ceil_mode=ceil),
        nn.Flatten(),
        nn.Linear(64 * down * across, width),
        nn.ReLU(),
        nn.Linear(width, classes),
    )
