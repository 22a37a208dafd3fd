"""Residual networks: for 32x32 colour images, and of bottleneck units for larger ones."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.layers import Shape, at_least

LEAK = 0.1
GROWTH = 4
"""Channels of a unit's output for each channel of its 3x3 convolution."""
LEAST = 32
"""Shortest side, in pixels, of which five halvings leave one pixel."""


class Standardise(nn.Module):
    """Scales pixels in [0, 1] to about zero mean and unit variance: (x - 0.5) / 0.25."""

    def forward(self, images: Tensor) -> Tensor:
        return (images - 0.5) * 4.0


class StandardiseEach(nn.Module):
    """Scales each image to zero mean and unit variance, as in the CIFAR-10 challenge."""

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        # The least deviation, for blank images; the challenge uses it with pixels in 0..255.
        least = flat.shape[1] ** -0.5 / 255
        deviation = flat.std(1, correction=0).clamp_min(least)
        return (images - flat.mean(1)[:, None, None, None]) / deviation[:, None, None, None]


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        return images + self.body(images)


def resnet9(shape: Shape, classes: int, width: int = 32) -> nn.Sequential:
    """Build nine layers of `width` to 8 `width` channels, which train robustly without a GPU.

    Layers with features: stem, stage1, stage2, stage3, pool (the default), fc.

    >>> resnet9((3, 32, 32), classes=10, width=4).fc.in_features
    32
    """

    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(*_convolution(inputs, outputs, 3), nn.ReLU())

    def residual(channels: int) -> Residual:
        return Residual(nn.Sequential(block(channels, channels), block(channels, channels)))

    return nn.Sequential(
        OrderedDict(
            standardise=Standardise(),
            stem=block(shape[0], width),
            stage1=nn.Sequential(block(width, 2 * width), nn.MaxPool2d(2), residual(2 * width)),
            stage2=nn.Sequential(block(2 * width, 4 * width), nn.MaxPool2d(2)),
            stage3=nn.Sequential(block(4 * width, 8 * width), nn.MaxPool2d(2), residual(8 * width)),
            pool=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            fc=nn.Linear(8 * width, classes),
        )
    )


class PreActivation(nn.Module):
    """A unit of two 3x3 convolutions, each after batch normalisation and leaky ReLU.

    The shortcut has no parameters: average pooling where the size changes, and zeros as new
    channels, half of them before the old ones. In the `first` unit of a network both branches start
    from the activation, as in the authors' code.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, first: bool):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.stride, self.grown, self.first = stride, outputs - inputs, first

    def forward(self, images: Tensor) -> Tensor:
        active = F.leaky_relu(self.norm1(images), LEAK)
        kept = active if self.first else images
        if self.stride > 1:
            kept = F.avg_pool2d(kept, self.stride)
        if self.grown:
            kept = F.pad(kept, [0, 0, 0, 0, self.grown // 2, self.grown - self.grown // 2])
        return kept + self.conv2(F.leaky_relu(self.norm2(self.conv1(active)), LEAK))


def madry_cifar(
    shape: Shape, classes: int, units: int = 5, widths: tuple[int, ...] = (16, 160, 320, 640)
) -> nn.Sequential:
    """Build w32-10 of the CIFAR-10 challenge: five pre-activation units in each of three stages.

    Layers with features: stem, stage1, stage2, stage3, pool (the default: the 640 averages after
    the last batch normalisation and leaky ReLU, the extractor of Zhang et al. 2019), fc.

    Source: Madry et al. 2018.

    >>> madry_cifar((3, 32, 32), classes=10, units=1, widths=(4, 8, 16, 32)).fc.in_features
    32
    """
    stages = OrderedDict()
    for stage, (inputs, outputs) in enumerate(pairwise(widths)):
        first = PreActivation(inputs, outputs, 2 if stage else 1, first=not stage)
        others = (PreActivation(outputs, outputs, 1, first=False) for _ in range(units - 1))
        stages[f"stage{stage + 1}"] = nn.Sequential(first, *others)
    model = nn.Sequential(
        OrderedDict(
            standardise=StandardiseEach(),
            stem=nn.Conv2d(shape[0], widths[0], 3, padding=1, bias=False),
            **stages,
            last=nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.LeakyReLU(LEAK)),
            pool=nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            fc=nn.Linear(widths[-1], classes),
        )
    )
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            outputs = part.weight[0, 0].numel() * part.out_channels
            nn.init.normal_(part.weight, std=(2 / outputs) ** 0.5)
        elif isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.1  # a decay of 0.9 in the challenge
        elif isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
    return model


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
