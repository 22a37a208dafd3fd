"""What a transform is compared with: as large a change without its direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SPILL = 1e-3
"""Of the mean change, at every pixel: what finds no room where it should go, goes there."""
MOST = 1e6
HALVINGS = 60


@dataclass(frozen=True)
class Control:
    """The random match of a transform: for each image the same mean absolute change, elsewhere and without its direction.

    The transform's absolute changes are taken to other pixels by a fixed permutation, multiplied by fixed random numbers
    between 0 and 2, and added or subtracted at random, or the other way where only that stays inside [0, 1]. What does not
    fit is made up by a larger factor, found by bisection, so that the mean change of each image is that of `of`. Without the
    random numbers a background lifted evenly would be its own control: permuting it changes nothing, and black can only
    become lighter.

    Args:
        of: a transform.
        seed: of the permutation, numbers and signs, which all images share.
    """

    of: Callable[[Tensor], Tensor]
    seed: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        change = (self.of(images) - images).abs().flatten(2)
        wanted = change.mean((1, 2), keepdim=True)
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(change.shape[2], generator=generator).to(images.device)
        factor = 2 * torch.rand(change.shape[1:], generator=generator).to(images)
        lighter = (torch.rand(change.shape[1:], generator=generator) < 0.5).to(images.device)
        weight = (change[:, :, order] + SPILL * wanted) * factor

        pixels = images.flatten(2)
        fits = weight <= torch.where(lighter, 1 - pixels, pixels)
        lighter = torch.where(fits, lighter, pixels < 0.5)
        room = torch.where(lighter, 1 - pixels, pixels)
        low, high = torch.zeros_like(wanted), torch.full_like(wanted, MOST)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            enough = (middle * weight).minimum(room).mean((1, 2), keepdim=True) >= wanted
            low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
        amount = (high * weight).minimum(room)
        return (pixels + torch.where(lighter, amount, -amount)).clamp_(0, 1).view_as(images)

    def __str__(self) -> str:
        return f"random change as large as {self.of}"
