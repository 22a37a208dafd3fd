"""A network small enough to train robustly in seconds."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def small_cnn(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Two 3x3 convolutions (32, 64) with pooling, a dense layer of 128; for 8x8 digits and 28x28 images.

    Layers to read features from: conv1, relu1, pool1, conv2, relu2, pool2, fc1, relu3 (the default), fc2.
    """
    channels, height, width = shape
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 32, 3, padding=1),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(32, 64, 3, padding=1),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(64 * (height // 4) * (width // 4), 128),
            relu3=nn.ReLU(),
            fc2=nn.Linear(128, classes),
        )
    )
