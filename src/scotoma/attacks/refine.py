"""Reverting the changed pixels that an attack did not need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.oracle import Oracle, select
from scotoma.attacks.core.wrapper import Wrapped
from scotoma.attacks.pointwise import Pointwise
from scotoma.utils.random import Randomness

STREAM = -2
"""Stream of random numbers for `Refined`; attacks number theirs from 0."""


@dataclass(frozen=True)
class Refined(Wrapped):
    """An attack in L1 or L2 whose results are reverted pixel by pixel while the model stays fooled.

    It serves models with steps: along `BPDA`'s slopes all values change, but only those that cross
    a step matter. Returns images no farther than the attack's, by `Pointwise`.

    Args:
        attack: an attack in L1 or L2.

    >>> from scotoma.attacks.ddn import DDN
    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> Refined(DDN("l2", steps=20))(nn.Flatten(), images, labels).argmax().item()
    1
    """

    id: ClassVar[str] = "refined"

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        found = super().run(model, images, labels, random)
        return reverted(self.norm, found, model, images, labels, random)

    def run_from(
        self, start: Tensor, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> Tensor:
        found = super().run_from(start, model, images, labels, random)
        return reverted(self.norm, found, model, images, labels, random)


def reverted(
    norm: str,
    adversarial: Tensor,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    random: Randomness,
) -> Tensor:
    """Revert changed pixels in place while the model stays fooled; return the images."""
    rows = (adversarial != images).flatten(1).any(1).nonzero().squeeze(1)
    if len(rows):
        clean, own = images[rows], random.select(rows).fork(STREAM)
        nearer = Pointwise(norm)(
            select(model, rows), clean, labels[rows], start=adversarial[rows], generator=own
        )
        adversarial[rows] = torch.where(
            (nearer != clean).flatten(1).any(1).view(-1, 1, 1, 1), nearer, adversarial[rows]
        )
    return adversarial


def take_back(
    model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor, random: Randomness
) -> None:
    """Revert changed pixels in place until none can be; others may go to the edge of the box."""
    rows = (adversarial != images).flatten(1).any(1).nonzero().squeeze(1)
    if not len(rows):
        return
    part = select(model, rows), images[rows], labels[rows]
    start = adversarial[rows]
    delta = start - part[1]
    corner = torch.where(delta == 0, start, (delta > 0).to(start))
    fooled = Oracle(part[0], part[2]).fooled(corner)
    start[fooled] = corner[fooled]
    adversarial[rows] = Pointwise("l0")(*part, start=start, generator=random.select(rows))
