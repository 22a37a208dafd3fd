"""The networks of provable training (Wong and Kolter 2018)."""

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


def wong_large(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Four convolutions (32, 32, 64, 64), every other one strided, two dense layers of 512 (Wong et al. 2018).

    Layers to read features from: conv1, relu1 ... conv4, relu4, fc1, relu5, fc2, relu6 (the default), fc3.
    """
    channels, height, width = shape
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 32, 3, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(32, 32, 4, stride=2, padding=1),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(32, 64, 3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(64, 64, 4, stride=2, padding=1),
            relu4=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(64 * (height // 4) * (width // 4), 512),
            relu5=nn.ReLU(),
            fc2=nn.Linear(512, 512),
            relu6=nn.ReLU(),
            fc3=nn.Linear(512, classes),
        )
    )
