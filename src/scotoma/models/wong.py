"""The small network of provable training (Wong and Kolter 2018)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def wong_small(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Two strided 4x4 convolutions (16, 32), a dense layer of 100 (Wong and Kolter 2018, MNIST).

    Layers to read features from: conv1, relu1, conv2, relu2, fc1, relu3 (the default), fc2.
    """
    channels, height, width = shape
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 16, 4, stride=2, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(16, 32, 4, stride=2, padding=1),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(32 * (height // 4) * (width // 4), 100),
            relu3=nn.ReLU(),
            fc2=nn.Linear(100, classes),
        )
    )
