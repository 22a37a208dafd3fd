"""The four networks of ensemble adversarial training on MNIST (Tramer et al. 2018, appendix A; as in the authors' code)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from scotoma.utils.errors import InputError

Shape = tuple[int, int, int]


def tramer_a(shape: Shape, classes: int) -> nn.Sequential:
    """Model A: two 5x5 convolutions of 64, dropout 0.25, a dense layer of 128, dropout 0.5.

    Layers to read features from: conv1, relu1, conv2, relu2, fc1, relu3, dropout2 (the default), fc2.
    """
    return _convolutions(_at_least("tramer-a", shape, 9), classes, filters=64, size=5)


def tramer_b(shape: Shape, classes: int) -> nn.Sequential:
    """Model B: dropout 0.2 on the image, convolutions 8x8 (64), 6x6 (128), both strided, and 5x5 (128), dropout 0.5.

    Layers to read features from: conv1, relu1, conv2, relu2, conv3, relu3, dropout2, flatten (the default), fc.
    """
    channels, height, width = _at_least("tramer-b", shape, 28)

    def left(size: int) -> int:
        return (size // 2 - 6) // 2 + 1 - 4

    return nn.Sequential(
        OrderedDict(
            dropout1=nn.Dropout(0.2),
            conv1=nn.Conv2d(channels, 64, 8, stride=2, padding=3),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(64, 128, 6, stride=2),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(128, 128, 5),
            relu3=nn.ReLU(),
            dropout2=nn.Dropout(0.5),
            flatten=nn.Flatten(),
            fc=nn.Linear(128 * left(height) * left(width), classes),
        )
    )


def tramer_c(shape: Shape, classes: int) -> nn.Sequential:
    """Model C: 3x3 convolutions of 128 and 64, dropout 0.25, a dense layer of 128, dropout 0.5.

    Layers to read features from: conv1, relu1, conv2, relu2, fc1, relu3, dropout2 (the default), fc2.
    """
    return _convolutions(_at_least("tramer-c", shape, 5), classes, filters=128, size=3)


def tramer_d(shape: Shape, classes: int) -> nn.Sequential:
    """Model D: four dense layers of 300, each with dropout 0.5, and no convolution.

    Layers to read features from: fc1, relu1, dropout1 ... fc4, relu4, dropout4 (the default), fc5.
    """
    channels, height, width = shape
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number in range(1, 5):
        layers[f"fc{number}"] = nn.Linear(channels * height * width if number == 1 else 300, 300)
        layers[f"relu{number}"] = nn.ReLU()
        layers[f"dropout{number}"] = nn.Dropout(0.5)
    return nn.Sequential(layers | {"fc5": nn.Linear(300, classes)})


def _convolutions(shape: Shape, classes: int, filters: int, size: int) -> nn.Sequential:
    """Models A and C: convolutions of `filters` and 64, `size` pixels wide, and a dense layer."""
    channels, height, width = shape
    lost = 2 * (size - 1)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, filters, size),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(filters, 64, size),
            relu2=nn.ReLU(),
            dropout1=nn.Dropout(0.25),
            flatten=nn.Flatten(),
            fc1=nn.Linear(64 * (height - lost) * (width - lost), 128),
            relu3=nn.ReLU(),
            dropout2=nn.Dropout(0.5),
            fc2=nn.Linear(128, classes),
        )
    )


def _at_least(arch: str, shape: Shape, pixels: int) -> Shape:
    if min(shape[1:]) < pixels:
        raise InputError(
            f"--arch {arch}: its filters need images of at least {pixels}x{pixels}, these are {shape[1]}x{shape[2]}"
        )
    return shape
