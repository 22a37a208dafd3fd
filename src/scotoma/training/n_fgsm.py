"""Single-step adversarial training without catastrophic overfitting (de Jorge et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module

from scotoma.training.recipe import AdversarialTraining


@dataclass(frozen=True)
class NoiseFGSM(AdversarialTraining):
    """N-FGSM: one signed-gradient step of size eps from strong uniform noise, two passes a batch.

    Single-step training usually collapses: after some epochs the network is robust to its own step
    only (Wong et al. 2020). Noise beyond eps without a projection back to the ball prevents that at
    the usual sizes (de Jorge et al. 2022, Algorithm 1). The adversarial images lie up to
    (noise + 1) eps from the originals.

    Args:
        threat: the ball to be robust in.
        noise: half-width of the uniform noise, as a multiple of eps.
        warmup: fraction of the training over which eps grows from 0.

    >>> from scotoma.claim import Threat
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    >>> recipe, images, labels = NoiseFGSM(Threat("linf", 0.1)), torch.rand(2, 1, 4, 4), [0, 2]
    >>> recipe(model, images, torch.tensor(labels), 0.5, torch.Generator()).shape
    torch.Size([])
    """

    noise: float = 2.0
    warmup: float = 0.1

    def perturb(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        eps = self.grown(progress, self.warmup).eps
        start = torch.rand(images.shape, generator=generator, device=images.device)
        start = start.contiguous(memory_format=torch.channels_last).mul_(2).sub_(1)
        leaf = start.mul_(self.noise * eps).add_(images).clamp_(0, 1).requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(leaf).float(), labels), leaf)
        return (leaf.detach() + eps * gradient.sign()).clamp_(0, 1)
