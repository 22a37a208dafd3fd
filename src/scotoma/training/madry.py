"""Adversarial training with projected gradient descent (Madry et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.claim import Threat


@dataclass(frozen=True)
class PGDTraining:
    """Training on adversarial images alone, made by PGD from a random start at every step (Madry et al. 2018, eq. 2.1).

    Args:
        threat: the ball to be robust in.
        steps: PGD steps for each batch.
        warmup: the share of the training over which eps grows from 0 to its full size. Without it a network meets images
            that it cannot learn at large eps and stays at chance.
    """

    threat: Threat
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
        return F.cross_entropy(
            model(self.perturb(model, images, labels, progress, generator)).float(), labels
        )

    def perturb(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        """The adversarial images to learn from, (n, c, h, w)."""
        threat = Threat(
            self.threat.norm, self.threat.eps * min(1.0, max(progress, 1e-3) / self.warmup)
        )
        start = torch.rand(images.shape, generator=generator, device=images.device)
        x = threat.project(images + threat.eps * (2 * start - 1), images)
        for _ in range(self.steps):
            leaf = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(model(leaf).float(), labels), leaf)
            x = threat.project(x + threat.steepest(gradient).mul_(2.5 / self.steps), images)
        return x
