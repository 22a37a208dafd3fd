"""The networks of provable training."""

from __future__ import annotations

from torch import nn

from scotoma.models.layers import Shape, convolution, sequence


def wong_small(shape: Shape, classes: int) -> nn.Sequential:
    """Build two strided 4x4 convolutions (16, 32) and a dense layer of 100.

    Layers with features: conv1, relu1, conv2, relu2, fc1, relu3 (the default), fc2.

    Source: Wong and Kolter 2018, MNIST.

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

    Source: Wong et al. 2018.

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
