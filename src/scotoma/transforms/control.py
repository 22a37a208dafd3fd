"""Random changes as large as a transform, to compare it with, and the contrast that it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SPILL = 1e-3
"""Share of the mean change added at every pixel, where change goes that has no room elsewhere."""
MOST = 1e6
HALVINGS = 60


@dataclass(frozen=True)
class Control:
    """A random change of each image with the mean absolute change of a transform.

    A fixed permutation carries the absolute changes of the transform to other pixels. They are
    multiplied by fixed random numbers between 0 and 2 and added or subtracted at random, with the
    sign flipped where the result would leave [0, 1]. Bisection then scales all of them until the
    mean change of each image is that of `of`, since some pixels have no room. Without the random
    numbers an evenly lifted background would be its own control: a permutation does not change it,
    and black can only become lighter.

    Args:
        of: a transform.
        seed: seed of the permutation, numbers and signs, which all images share.

    >>> from scotoma.transforms import ScaleShift
    >>> images, lighter = torch.full((1, 1, 2, 2), 0.25), ScaleShift(1.0, 0.125)
    >>> round((Control(lighter)(images) - images).abs().mean().item(), 4)
    0.125
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


def contrast(transform: Callable[[Tensor], Tensor] | None) -> float:
    """Return the share of the contrast that a transform leaves, and so of the budget.

    A transform that squeezes the range between black and white has it as its attribute `contrast`.
    It is 1 for any other transform: one that leaves large black and white areas as they are leaves
    a perturbation of eps as large beside them as before.

    >>> from scotoma.transforms import ScaleShift
    >>> contrast(ScaleShift(0.8, 0.1)), contrast(None)
    (0.8, 1.0)
    """
    inner = transform.of if isinstance(transform, Control) else transform
    return float(getattr(inner, "contrast", 1.0))
