"""Reverting the changed pixels that an attack did not need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.base import Wrapped
from scotoma.attacks.core.batch import Batch, changed
from scotoma.attacks.core.nearest import column
from scotoma.attacks.core.oracle import Oracle
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
        adversarial = super().run(model, images, labels, random)
        return reverted(self.norm, adversarial, Batch(model, images, labels, random))

    def run_from(
        self, start: Tensor, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> Tensor:
        adversarial = super().run_from(start, model, images, labels, random)
        return reverted(self.norm, adversarial, Batch(model, images, labels, random))


def reverted(norm: str, adversarial: Tensor, batch: Batch) -> Tensor:
    """Revert changed pixels in place while the model stays fooled; return the images."""
    rows = changed(adversarial, batch.images).nonzero().squeeze(1)
    if len(rows):
        part = batch.select(rows).fork(STREAM)
        nearer = part.attacked(Pointwise(norm), adversarial[rows])
        fooling = column(changed(nearer, part.images))
        adversarial[rows] = torch.where(fooling, nearer, adversarial[rows])
    return adversarial


def take_back(adversarial: Tensor, batch: Batch) -> None:
    """Revert changed pixels in place until none can be; others may go to the edge of the box."""
    rows = changed(adversarial, batch.images).nonzero().squeeze(1)
    if not len(rows):
        return
    part, start = batch.select(rows), adversarial[rows]
    delta = start - part.images
    corner = torch.where(delta == 0, start, (delta > 0).to(start))
    fooled = Oracle(part.model, part.labels).fooled(corner)
    start[fooled] = corner[fooled]
    adversarial[rows] = part.attacked(Pointwise("l0"), start)
