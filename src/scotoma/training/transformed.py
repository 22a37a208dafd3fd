"""PGD training in which part of a batch is transformed first: balls shrink with the contrast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import Module

from scotoma.threat import Threat
from scotoma.training.pgd import PGDTraining
from scotoma.training.pool import POOLED, Pool
from scotoma.transforms.composition import Composition
from scotoma.transforms.control import contrast
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.transforms.space import Space

KEPT_WHITE = 0.3
"""Share of the shifts that leave white or black as it is: the last to close (docs/log.md)."""
FAMILIES = Space(("rotate", "translate", "blur", "gamma", "texture"), channels=1)
SHARE = 0.5
"""Probability of each family in a composition."""


@dataclass(frozen=True)
class Patched:
    """PGD training in which a random transform is applied to a share of every batch first.

    The ball shrinks with the contrast: eps for clean images, alpha·eps after scale-shift, since
    success at alpha·eps is the fair measure (Zhang et al. 2019, section 4.3).

    Args:
        threat: the ball to be robust in.
        spots: the transforms, images to images; none leaves every image as it is.
        pool: images that join each batch, `POOLED` as many; None adds none.
        share: fraction of each batch that is transformed.
        steps: PGD steps for each batch.
        warmup: fraction of the training over which the ball around transformed images grows. Around
            clean images it has its full size, since training begins with a robust model.
    """

    threat: Threat
    spots: tuple[Callable[[Tensor], Tensor], ...]
    pool: Pool | None = None
    share: float = 0.5
    steps: int = 7
    warmup: float = 0.3

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        moved = round(self.share * len(images)) if self.spots else 0
        device = generator.device
        parts = [Part(images[moved:], labels[moved:], 1.0, 1e-3)]
        if moved:
            drawn = torch.randint(len(self.spots), (1,), generator=generator, device=device)
            spot = self.spots[int(drawn)]
            parts.append(Part(spot(images[:moved]), labels[:moved], contrast(spot), self.warmup))
        if self.pool is not None:
            joined = self.pool.drawn(max(1, round(POOLED * len(images))), generator)
            parts.append(Part(*joined, 1.0, self.warmup))
        return scaled_loss(parts, self.threat, self.steps, model, progress, generator)


@dataclass(frozen=True)
class ShiftedTraining:
    """PGD training in which most of each batch has a random contrast and background.

    The batch is cut into groups. The first stays as it is; each other one has a contrast shift of
    its own, drawn anew for every batch, and is attacked at alpha·eps.

    Args:
        threat: the ball to be robust in.
        lowest: smallest contrast alpha, which is drawn uniformly between this and 1.
        groups: groups of a batch.
        steps: PGD steps for each batch.
        warmup: fraction of the training over which the balls grow; near 0 for a robust start.

    Source: Zhang et al. 2019, section 3.3, for the shifts and for alpha·eps.

    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    >>> images, labels = torch.rand(8, 1, 4, 4), torch.tensor(4 * [0, 2])
    >>> recipe = ShiftedTraining(Threat("linf", 0.1))
    >>> recipe(model, images, labels, 0.5, torch.Generator()).shape
    torch.Size([])
    """

    threat: Threat
    lowest: float = 0.6
    groups: int = 4
    steps: int = 7
    warmup: float = 0.3

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        parts = []
        for number, rows in enumerate(torch.arange(len(images)).chunk(self.groups)):
            change = self.change(generator) if number else ScaleShift(1.0, 0.0)
            moved = change(images[rows]) if number else images[rows]
            parts.append(Part(moved, labels[rows], change.contrast, self.warmup))
        return scaled_loss(parts, self.threat, self.steps, model, progress, generator)

    def change(self, generator: Generator) -> ScaleShift | Composition:
        """Return the change of a group."""
        return self.drawn(generator)

    def drawn(self, generator: Generator) -> ScaleShift:
        """Return a random contrast shift that moves no pixel out of [0, 1]."""
        contrast, way, side = torch.rand(3, generator=generator, device=generator.device).tolist()
        alpha = self.lowest + (1 - self.lowest) * contrast
        end = (1 - alpha) / 2
        at_end = end if side < 0.5 else -end
        return ScaleShift(alpha, at_end if way < KEPT_WHITE else end * (2 * side - 1))


@dataclass(frozen=True)
class ComposedTraining(ShiftedTraining):
    """PGD training in which most of each batch goes through a random composition of changes.

    Every group but the first has a contrast shift as in `ShiftedTraining` and, before it, some of
    rotation, translation, blur, gamma and texture. It is attacked in the ball of the composition,
    whose factor is the contrast that is left.

    Args:
        reach: largest size of a change, as a share of the range that `scotoma map` searches.
        white: share of the contrast shifts that leave white as it is, beside those that are drawn
            so: after training on all shifts alike they are the last to stay open.

    >>> recipe = ComposedTraining(Threat("linf", 0.1))
    >>> 0.4 < recipe.change(torch.Generator()).contrast <= 1
    True
    """

    reach: float = 0.8
    white: float = 0.3

    def change(self, generator: Generator) -> Composition:
        """Return a random composition whose last part is a contrast shift."""
        where = generator.device
        sizes = 2 * torch.rand(FAMILIES.dimensions, generator=generator, device=where) - 1
        taken = torch.rand(len(FAMILIES.parts), generator=generator, device=where) < SHARE
        kept = taken.repeat_interleave(torch.tensor(FAMILIES.sizes, device=where))
        changes = FAMILIES.at((self.reach * sizes * kept).tolist())
        shift = self.drawn(generator)
        if torch.rand(1, generator=generator, device=where).item() < self.white:
            shift = ScaleShift(shift.alpha, (1 - shift.alpha) / 2)
        return Composition((*changes.parts, shift))


class Part(NamedTuple):
    """Images of a batch with one transform."""

    images: Tensor
    labels: Tensor
    scale: float
    """share of eps in which they are attacked"""
    warmup: float


def scaled_loss(
    parts: Sequence[Part],
    threat: Threat,
    steps: int,
    model: Module,
    progress: float,
    generator: Generator,
) -> Tensor:
    """Return the mean loss over all images, each attacked by PGD in the ball of its part."""
    total, loss = sum(len(part.images) for part in parts), parts[0].images.new_zeros(())
    for images, labels, scale, warmup in parts:
        inner = PGDTraining(Threat(threat.norm, scale * threat.eps), steps, warmup)
        if len(images):
            loss = loss + inner(model, images, labels, progress, generator) * (len(images) / total)
    return loss
