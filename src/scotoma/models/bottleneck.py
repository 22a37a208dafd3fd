"""Residual networks of bottleneck units, for images of any size from 32x32 (He et al. 2016)."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.resnet import Standardise
from scotoma.utils.errors import InputError

Shape = tuple[int, int, int]
GROWTH = 4
"""A unit's output has so many times the channels of its 3x3 convolution."""
LEAST = 32
"""Pixels that five halvings leave one of."""


class Bottleneck(nn.Module):
    """relu(shortcut + body): 1x1 to `width` channels, 3x3, 1x1 to four times as many, each before batch normalisation.

    The stride stands in the 3x3 convolution, where it skips no pixel (as in Goyal et al. 2017; in the first 1x1 in the paper). The
    shortcut is a 1x1 convolution where the size changes.
    """

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = GROWTH * width
        self.body = nn.Sequential(
            *_convolution(inputs, width, 1),
            nn.ReLU(),
            *_convolution(width, width, 3, stride),
            nn.ReLU(),
            *_convolution(width, outputs, 1),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(*_convolution(inputs, outputs, 1, stride))
        )

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.shortcut(images) + self.body(images))


def resnet50(shape: Shape, classes: int) -> nn.Sequential:
    """ResNet-50: units 3, 4, 6, 3 in stages of 64 to 512 channels (He et al. 2016, Table 1).

    Layers to read features from: stem, stage1, stage2, stage3, stage4, pool (the default: the input of fc), fc.
    """
    return _resnet("resnet50", shape, classes, (3, 4, 6, 3))


def resnet101(shape: Shape, classes: int) -> nn.Sequential:
    """ResNet-101: the same with 23 units in the third stage."""
    return _resnet("resnet101", shape, classes, (3, 4, 23, 3))


def _resnet(arch: str, shape: Shape, classes: int, units: tuple[int, ...]) -> nn.Sequential:
    channels, height, width = shape
    if min(height, width) < LEAST:
        raise InputError(
            f"--arch {arch}: its strides need images of at least {LEAST}x{LEAST}, these are {height}x{width}"
        )
    stages, inputs = OrderedDict(), 64
    for stage, count in enumerate(units):
        size = 64 * 2**stage
        parts = []
        for unit in range(count):
            parts.append(Bottleneck(inputs, size, 2 if stage and not unit else 1))
            inputs = GROWTH * size
        stages[f"stage{stage + 1}"] = nn.Sequential(*parts)
    model = nn.Sequential(
        OrderedDict(
            standardise=Standardise(),
            stem=nn.Sequential(
                *_convolution(channels, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)
            ),
            **stages,
            pool=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            fc=nn.Linear(inputs, classes),
        )
    )
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(part, Bottleneck):
            nn.init.zeros_(part.body[-1].weight)  # type: ignore[arg-type]  a fresh unit passes its input on (Goyal et al. 2017)
    return model


def _convolution(
    inputs: int, outputs: int, size: int, stride: int = 1
) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)
