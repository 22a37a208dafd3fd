"""Adversarial training on blind spots: the images as they are beside the same after the changes that void the defence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scotoma.claim import Threat
from scotoma.training.madry import PGDTraining
from scotoma.transforms.control import contrast


@dataclass(frozen=True)
class Patched:
    """PGD training in which a share of every batch is moved into a blind spot first, at random one of those given.

    The ball around a moved image shrinks with its contrast: eps for the images as they are, alpha·eps after scale-shift
    (success at alpha·eps is the fair measure of Zhang et al. 2019, section 4.3).

    Args:
        threat: the ball to be robust in.
        spots: the changes, images to images.
        share: of each batch that is moved.
        steps: PGD steps for each batch.
        warmup: the share of the training over which the ball around moved images grows to its full size; the images as they
            are keep theirs, since training goes on from a robust model.
    """

    threat: Threat
    spots: tuple[Callable[[Tensor], Tensor], ...]
    share: float = 0.5
    steps: int = 7
    warmup: float = 0.3

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        moved = round(self.share * len(images))
        parts = [(images[moved:], labels[moved:], 1.0, 1e-3)]
        if moved:
            number = int(
                torch.randint(len(self.spots), (1,), generator=generator, device=generator.device)
            )
            spot = self.spots[number]
            parts.append((spot(images[:moved]), labels[:moved], contrast(spot), self.warmup))
        loss = images.new_zeros(())
        for batch, classes, scale, warmup in parts:
            inner = PGDTraining(
                Threat(self.threat.norm, scale * self.threat.eps), self.steps, warmup
            )
            if len(batch):
                loss = loss + inner(model, batch, classes, progress, generator) * (
                    len(batch) / len(images)
                )
        return loss
