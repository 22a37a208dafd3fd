"""Augmentations: random changes of clean images before a recipe trains on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from scotoma.utils.errors import InputError


class Augmentation(Protocol):
    """A frozen dataclass; its `repr` goes into the model's card."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed images, (n, c, h, w) in [0, 1]."""
        ...


@dataclass(frozen=True)
class CropFlip:
    """Shift every image by up to `padding` pixels, black beyond the edge, and mirror half of them.

    This is usual on CIFAR-10.

    >>> CropFlip(padding=2)(torch.rand(3, 1, 8, 8), torch.Generator()).shape
    torch.Size([3, 1, 8, 8])
    """

    padding: int = 4

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n, _, height, width = images.shape
        down, right, mirrored = (
            torch.randint(high, (n, 1), generator=generator, device=images.device)
            for high in (2 * self.padding + 1, 2 * self.padding + 1, 2)
        )
        rows = torch.arange(height, device=images.device) + down
        along = torch.arange(width, device=images.device)
        columns = torch.where(mirrored.bool(), along.flip(0), along) + right
        wide = F.pad(images, [self.padding] * 4).permute(0, 2, 3, 1)
        which = torch.arange(n, device=images.device)[:, None, None]
        return wide[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Cutout:
    """Cover a random square of every image with one colour (DeVries & Taylor 2017).

    Its centre is uniform over pixels, and it is cut off at the border. Duan et al. 2023 combine it
    with adversarial training against unequal attribution.

    Args:
        side: side of the square in pixels, from 1; None is half the shorter side of the image: the
            16 pixels of DeVries & Taylor on CIFAR-10.
        colour: colour of all channels, in [0, 1]; 0 is black. None is the batch's mean in each
            channel, about the zero of normalised images that DeVries & Taylor use.

    Raises:
        InputError: `side` or `colour` out of range.

    >>> images = Cutout(side=2)(torch.ones(3, 1, 8, 8), torch.Generator())
    >>> images.min().item()
    0.0
    """

    side: int | None = None
    colour: float | None = 0.0

    def __post_init__(self):
        if self.side is not None and self.side < 1:
            raise InputError(f"side {self.side} of augmentation cutout; want 1 pixel or more")
        if self.colour is not None and not 0 <= self.colour <= 1:
            raise InputError(f"colour {self.colour:g} of augmentation cutout; images are in [0, 1]")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n, _, height, width = images.shape
        side = self.side or max(1, min(height, width) // 2)

        def covered(size: int) -> Tensor:
            centre = torch.randint(size, (n, 1), generator=generator, device=images.device)
            along = torch.arange(size, device=images.device) - centre + side // 2
            return (along >= 0) & (along < side)

        square = covered(height)[:, None, :, None] & covered(width)[:, None, None, :]
        colour = images.mean((0, 2, 3), keepdim=True) if self.colour is None else self.colour
        return torch.where(square, colour, images)


@dataclass(frozen=True)
class RandomScaleShift:
    """Change contrast and brightness at random: the blind-spot attack's transforms as augmentation.

    x' = alpha x + beta on [-0.5, 0.5], with |beta| at most (1 - alpha) / 2, so that no pixel leaves
    the range (Zhang et al. 2019, section 3.3).

    Args:
        alpha: smallest contrast; it is drawn uniformly between this and 1.
        share: probability that an image is changed.

    >>> RandomScaleShift(alpha=0.8)(torch.rand(3, 1, 8, 8), torch.Generator()).shape
    torch.Size([3, 1, 8, 8])
    """

    alpha: float = 0.6
    share: float = 0.75

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        chance = torch.rand((3, len(images), 1, 1, 1), generator=generator, device=images.device)
        alpha = torch.where(chance[0] < self.share, self.alpha + (1 - self.alpha) * chance[1], 1.0)
        beta = (1 - alpha) / 2 * (2 * chance[2] - 1)
        return (images * alpha + (1 - alpha) / 2 + beta).clamp_(0, 1)


@dataclass(frozen=True)
class Invert:
    """Turn half of the images into their negatives, so that no background is black in all.

    Args:
        share: probability that an image becomes 1 - x.

    >>> Invert(share=1.0)(torch.zeros(3, 1, 8, 8), torch.Generator()).min().item()
    1.0
    """

    share: float = 0.5

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        chance = torch.rand((len(images), 1, 1, 1), generator=generator, device=images.device)
        return torch.where(chance < self.share, 1 - images, images)


@dataclass(frozen=True)
class Varied:
    """Change what a person reads through: position, contrast, background, brightness, noise.

    Every image is turned, zoomed and shifted at random, its contrast and background change as in
    `RandomScaleShift`, its pixels are raised to a random power, and Gaussian noise is added.

    Args:
        degrees: largest rotation.
        zoom: largest relative change of size.
        shift: largest translation, as a fraction of the side.
        alpha: smallest contrast.
        gamma: largest power; the smallest is its inverse.
        noise: largest standard deviation of the noise.

    >>> Varied(degrees=5)(torch.rand(3, 1, 8, 8), torch.Generator()).shape
    torch.Size([3, 1, 8, 8])
    """

    degrees: float = 15.0
    zoom: float = 0.1
    shift: float = 0.07
    alpha: float = 0.5
    gamma: float = 2.0
    noise: float = 0.1

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        n, device = len(images), images.device
        drawn = torch.rand((6, n), generator=generator, device=device).mul_(2).sub_(1)
        angle, size = drawn[0] * math.radians(self.degrees), 1 + self.zoom * drawn[1]
        cosine, sine = angle.cos() * size, angle.sin() * size
        rows = [cosine, -sine, 2 * self.shift * drawn[2], sine, cosine, 2 * self.shift * drawn[3]]
        grid = F.affine_grid(torch.stack(rows, 1).view(n, 2, 3), list(images.shape), False)
        placed = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        power = torch.exp(math.log(self.gamma) * drawn[4]).view(n, 1, 1, 1)
        toned = placed.clamp_(1e-6, 1).pow(power)
        toned = RandomScaleShift(self.alpha)(toned, generator)
        noise = torch.randn(images.shape, generator=generator, device=device)
        return (toned + self.noise * drawn[5].abs().view(n, 1, 1, 1) * noise).clamp_(0, 1)
