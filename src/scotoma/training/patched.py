"""Adversarial training on blind spots: clean images beside images after harmless transforms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
        parts = [(images[moved:], labels[moved:], 1.0, 1e-3)]
        if moved:
            drawn = torch.randint(len(self.spots), (1,), generator=generator, device=device)
            spot = self.spots[int(drawn)]
            parts.append((spot(images[:moved]), labels[:moved], contrast(spot), self.warmup))
        loss = images.new_zeros(())
        for batch, classes, scale, warmup in parts:
            threat = Threat(self.threat.norm, scale * self.threat.eps)
            inner, weight = PGDTraining(threat, self.steps, warmup), len(batch) / len(images)
            if len(batch):
                loss = loss + inner(model, batch, classes, progress, generator) * weight
        return loss
