"""Residual networks of bottleneck units, for images of at least 32x32 pixels."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.layers import Shape, at_least
from scotoma.models.resnet import Standardise

GROWTH = 4
"""Channels of a unit's output for each channel of its 3x3 convolution."""
LEAST = 32
"""Shortest side, in pixels, of which five halvings leave one pixel."""


class Bottleneck(nn.Module):
    """relu(shortcut + body): 1x1 to `width` channels, 3x3, 1x1 to four times as many channels.

    Batch normalisation follows each convolution. The 3x3 convolution has the stride and so skips no
    pixel (Goyal et al. 2017; in the paper the first 1x1 has it). The shortcut is a 1x1 convolution
    where the size changes.
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
    """Build ResNet-50: units 3, 4, 6, 3 in stages of 64 to 512 channels.

    Layers with features: stem, stage1, stage2, stage3, stage4, pool (the default), fc.

    Raises:
        InputError: the images are smaller than 32x32 pixels.

    Source: He et al. 2016, Table 1.

    >>> resnet50((3, 224, 224), classes=10).fc.in_features
    2048
    """
    return _resnet(at_least(LEAST, shape, "resnet50"), classes, (3, 4, 6, 3))


def resnet101(shape: Shape, classes: int) -> nn.Sequential:
    """Build ResNet-101: `resnet50` with 23 units in the third stage.

    >>> len(resnet101((3, 224, 224), classes=10).stage3)
    23
    """
    return _resnet(at_least(LEAST, shape, "resnet101"), classes, (3, 4, 23, 3))


def _resnet(shape: Shape, classes: int, units: tuple[int, ...]) -> nn.Sequential:
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
                *_convolution(shape[0], 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)
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
            # A fresh unit returns its input (Goyal et al. 2017).
            nn.init.zeros_(part.body[-1].weight)  # type: ignore[arg-type]
    return model


def _convolution(
    inputs: int, outputs: int, size: int, stride: int = 1
) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)
