"""A class-conditional generator by flow matching, small enough to train without a GPU."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scotoma.models.layers import Shape
from scotoma.utils.device import autocast

STEPS, FEWER = 10, 5
"""Midpoint steps from noise to image by dense layers and by the U-Net. 5 give pixels of CIFAR-10
that differ by 0.016 on average from those of 20."""
SMALL = 16
"""Side in pixels up to which a network of dense layers is enough."""
DRAWS = 4
"""Pairs of noise and time by which an image is classified, the same for all."""
FREQUENCIES = 16
GUIDANCE = 2.0
"""How far a sample goes towards its class in the U-Net, 1 being as far as was learnt."""


class Flow(nn.Module):
    """A velocity field that carries Gaussian noise at time 0 to images of a class at time 1.

    As a classifier it finds the class under which the velocity is predicted best, so that training
    shows how well the classes are told apart. The images are on [-1, 1] inside.

    Args:
        field: from points (n, c, h, w), and a condition (n, width), to velocities.
        shape: channels, height and width.
        classes: number of classes.
        width: size of the condition, an embedding of time and class.
        steps: midpoint steps from noise to image.
        guidance: how far samples go from the velocity of no class to that of theirs. Above 1 the
            class `classes` stands for no class, which training shows in place of some labels.

    Source:
        Lipman et al. 2023, with straight paths; Ho and Salimans 2022 for the guidance; Li et al.
        2023 for the classification.

    Example:
        >>> flow((1, 8, 8), classes=10).decode(torch.randn(2, 64), torch.tensor([3, 7])).shape
        torch.Size([2, 1, 8, 8])
    """

    precise = True
    """Images are classified and sampled in float32."""

    def __init__(
        self,
        field: nn.Module,
        shape: Shape,
        classes: int,
        width: int,
        steps: int = STEPS,
        guidance: float = 1.0,
    ):
        super().__init__()
        self.field, self.shape, self.classes = field, shape, classes
        self.steps, self.guidance = steps, guidance
        self.time = nn.Linear(2 * FREQUENCIES, width)
        self.kind = nn.Embedding(classes + (guidance > 1), width)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes): how much better each class predicts the velocity."""
        generator = torch.Generator().manual_seed(0)
        ends = 2 * images - 1
        total = images.new_zeros(len(images), self.classes)
        for draw in range(DRAWS):
            start = torch.randn(self.shape, generator=generator).to(images).expand_as(images)
            time = images.new_full((len(images),), (draw + 1) / (DRAWS + 1))
            points = torch.lerp(start, ends, time.view(-1, 1, 1, 1))
            for label in range(self.classes):
                labels = torch.full((len(images),), label, device=images.device)
                missed = self.velocity(points, time, labels) - (ends - start)
                total[:, label] = total[:, label] - missed.square().flatten(1).sum(1)
        return total

    def velocity(self, points: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        """Return the velocity (n, c, h, w) at points (n, c, h, w) and times (n,) in [0, 1]."""
        scales = math.pi * 2 ** torch.linspace(-2, 5, FREQUENCIES, device=points.device)
        angles = time[:, None] * scales
        waves = torch.cat([angles.sin(), angles.cos()], 1)
        return self.field(points, self.time(waves) + self.kind(labels))

    def guided(self, points: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        """Return the velocity (n, c, h, w) of a sample, by `guidance` from none to its class."""
        if self.guidance <= 1:
            return self.velocity(points, time, labels)
        none = torch.full_like(labels, self.classes)
        both = self.velocity(points.repeat(2, 1, 1, 1), time.repeat(2), torch.cat([none, labels]))
        unknown, own = both.chunk(2)
        return torch.lerp(unknown, own, self.guidance)

    def decode(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Return images (n, c, h, w) from noise (n, c * h * w), with gradients by the noise.

        The backward pass computes each step again, so that it keeps the activations of one alone.
        With gradients the U-Net computes in bf16 where the device has it: an image is what comes
        out, and a search for one needs no exact direction.
        """
        points = noise.view(len(noise), *self.shape)
        reduced = noise.requires_grad and isinstance(self.field, Levels)
        with autocast(noise.device, enabled=reduced):
            for step in range(self.steps):
                points = checkpoint(self._stepped, points, labels, step, use_reentrant=False)
        return ((points + 1) / 2).clamp(0, 1)

    def _stepped(self, points: Tensor, labels: Tensor, step: int) -> Tensor:
        time = points.new_full((len(points),), step / self.steps)
        half = points + self.guided(points, time, labels) / (2 * self.steps)
        return points + self.guided(half, time + 0.5 / self.steps, labels) / self.steps


class Dense(nn.Module):
    """A residual network of dense layers, for small images."""

    def __init__(self, shape: Shape, width: int, blocks: int = 3):
        super().__init__()
        size = math.prod(shape)
        self.first = nn.Linear(size, width)
        self.blocks = nn.ModuleList(_DenseBlock(width) for _ in range(blocks))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, size))

    def forward(self, points: Tensor, condition: Tensor) -> Tensor:
        hidden = self.first(points.flatten(1))
        for block in self.blocks:
            hidden = hidden + block(hidden, condition)
        return self.last(hidden).view_as(points)


class _DenseBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm, self.condition = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.body = nn.Sequential(nn.SiLU(), nn.Linear(width, width))

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.condition(condition).chunk(2, 1)
        return self.body(self.norm(hidden) * (1 + scale) + shift)


class Levels(nn.Module):
    """A small U-Net: three levels with a residual block down and up, for larger images."""

    def __init__(self, shape: Shape, condition: int, width: int):
        super().__init__()
        channels = (width, 2 * width, 3 * width)
        self.first = nn.Conv2d(shape[0], width, 3, padding=1)
        self.down = nn.ModuleList(_Block(each, each, condition) for each in channels)
        self.coarser = nn.ModuleList(
            nn.Conv2d(a, b, 3, 2, 1) for a, b in itertools.pairwise(channels)
        )
        self.up = nn.ModuleList(
            _Block(b + a, a, condition) for a, b in itertools.pairwise(channels)
        )
        self.last = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, shape[0], 3, padding=1)
        )

    def forward(self, points: Tensor, condition: Tensor) -> Tensor:
        hidden, kept = self.first(points), []
        for level, block in enumerate(self.down):
            hidden = block(hidden, condition)
            if level < len(self.coarser):
                kept.append(hidden)
                hidden = self.coarser[level](hidden)
        for level in reversed(range(len(self.up))):
            finer = nn.functional.interpolate(hidden, kept[level].shape[2:])
            hidden = self.up[level](torch.cat([finer, kept[level]], 1), condition)
        return self.last(hidden)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, condition: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.condition = nn.Linear(condition, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        hidden = self.conv1(nn.functional.silu(self.norm1(images)))
        scale, shift = self.condition(condition)[:, :, None, None].chunk(2, 1)
        hidden = self.conv2(nn.functional.silu(self.norm2(hidden) * (1 + scale) + shift))
        return hidden + self.skip(images)


def flow(shape: Shape, classes: int) -> Flow:
    """Build a generator: dense layers for images up to 16x16 pixels, else a small U-Net.

    >>> sum(weight.numel() for weight in flow((3, 32, 32), classes=10).parameters()) < 2_000_000
    True
    """
    if max(shape[1:]) <= SMALL:
        return Flow(Dense(shape, 256), shape, classes, 256)
    return Flow(Levels(shape, 128, 48), shape, classes, 128, FEWER, GUIDANCE)
