"""Adversarial training at random contrasts, in balls that shrink with the contrast."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import Module

from scotoma.claim import Threat
from scotoma.training.patched import Part, scaled_loss
from scotoma.transforms.composition import Composition
from scotoma.transforms.scale_shift import ScaleShift

KEPT_WHITE = 0.3
"""Share of the shifts that leave white or black as it is: the last to close (docs/log.md)."""


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

    Source:
        Zhang et al. 2019, section 3.3, for the shifts and for alpha·eps.

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
