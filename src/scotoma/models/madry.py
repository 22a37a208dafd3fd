"""The network of the MNIST challenge (Madry et al. 2018), which the blind-spot paper attacks."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def madry_mnist(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Two 5x5 convolutions (32, 64) with pooling, a dense layer of 1,024 (Madry et al. 2018, the MNIST challenge).

    Layers to read features from: conv1, relu1, pool1, conv2, relu2, pool2, fc1, relu3 (the default: h_fc1 of the
    challenge's code, the extractor of Zhang et al. 2019), fc2.
    """
    channels, height, width = shape
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, 32, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2, ceil_mode=True),
            conv2=nn.Conv2d(32, 64, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2, ceil_mode=True),
            flatten=nn.Flatten(),
            fc1=nn.Linear(64 * -(-height // 4) * -(-width // 4), 1024),
            relu3=nn.ReLU(),
            fc2=nn.Linear(1024, classes),
        )
    )
