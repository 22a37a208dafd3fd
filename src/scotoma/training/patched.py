"""Adversarial training on blind spots: clean images beside images after harmless transforms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import Module

from scotoma.claim import Threat
from scotoma.training.madry import PGDTraining
from scotoma.transforms.control import contrast


@dataclass(frozen=True)
class Patched:
    """PGD training in which a random transform is applied to a share of every batch first.

    The ball shrinks with the contrast: eps for clean images, alpha·eps after scale-shift, since
    success at alpha·eps is the fair measure (Zhang et al. 2019, section 4.3).

    Args:
        threat: the ball to be robust in.
        spots: the transforms, images to images.
        share: fraction of each batch that is transformed.
        steps: PGD steps for each batch.
        warmup: fraction of the training over which the ball around transformed images grows. Around
            clean images it has its full size, since training begins with a robust model.
    """

    threat: Threat
    spots: tuple[Callable[[Tensor], Tensor], ...]
    share: float = 0.5
    steps: int = 7
    warmup: float = 0.3

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        moved, device = round(self.share * len(images)), generator.device
        parts = [Part(images[moved:], labels[moved:], 1.0, 1e-3)]
        if moved:
            drawn = torch.randint(len(self.spots), (1,), generator=generator, device=device)
            spot = self.spots[int(drawn)]
            parts.append(Part(spot(images[:moved]), labels[:moved], contrast(spot), self.warmup))
        return scaled_loss(parts, self.threat, self.steps, model, progress, generator)


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
