"""Adversarial training with projected gradient descent (Madry et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module

from scotoma.training.recipe import AdversarialTraining


@dataclass(frozen=True)
class PGDTraining(AdversarialTraining):
    """Training on adversarial images of PGD from random starts (Madry et al. 2018, eq. 2.1).

    Args:
        threat: the ball to be robust in.
        steps: PGD steps for each batch.
        warmup: fraction of the training over which eps grows from 0. Without it a network at large
            eps cannot learn from its first images and stays at chance.

    >>> from scotoma.claim import Threat
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    >>> recipe, images, labels = PGDTraining(Threat("linf", 0.1)), torch.rand(2, 1, 4, 4), [0, 2]
    >>> recipe(model, images, torch.tensor(labels), 0.5, torch.Generator()).shape
    torch.Size([])
    """

    steps: int = 7
    warmup: float = 0.3

    def perturb(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        threat = self.grown(progress, self.warmup)
        start = torch.rand(images.shape, generator=generator, device=images.device)
        x = threat.project(images + threat.eps * (2 * start - 1), images)
        for _ in range(self.steps):
            leaf = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(model(leaf).float(), labels), leaf)
            x = threat.project(x + threat.steepest(gradient).mul_(2.5 / self.steps), images)
        return x
