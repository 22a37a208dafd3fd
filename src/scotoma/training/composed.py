"""Adversarial training after random compositions of harmless changes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator

from scotoma.training.shifted import ShiftedTraining
from scotoma.transforms.composition import Composition
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.transforms.space import Space

FAMILIES = Space(("rotate", "translate", "blur", "gamma", "texture"), channels=1)
SHARE = 0.5
"""Probability of each family in a composition."""


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

    >>> from scotoma.claim import Threat
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
