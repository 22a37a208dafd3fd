"""Single-step adversarial training that does not overfit catastrophically (de Jorge et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.claim import Threat


@dataclass(frozen=True)
class NoiseFGSM:
    """N-FGSM: one signed-gradient step of size eps from strong uniform noise, at the cost of two passes a batch.

    Single-step training usually collapses: after some epochs the network is robust to its own step and to nothing else
    (Wong et al. 2020). Noise beyond eps, with no projection back to the ball, prevents that at the sizes in use
    (de Jorge et al. 2022, Algorithm 1).

    Args:
        threat: the ball to be robust in.
        noise: half-width of the uniform noise, as a multiple of eps.
        warmup: the share of the training over which eps grows from 0 to its full size.
    """

    threat: Threat
    noise: float = 2.0
    warmup: float = 0.1

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
        """The adversarial images to learn from, (n, c, h, w), up to (noise + 1) eps from the images given."""
        eps = self.threat.eps * min(1.0, max(progress, 1e-3) / self.warmup)
        start = torch.rand(images.shape, generator=generator, device=images.device).contiguous(
            memory_format=torch.channels_last
        )
        leaf = (
            start.mul_(2).sub_(1).mul_(self.noise * eps).add_(images).clamp_(0, 1).requires_grad_()
        )
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(leaf).float(), labels), leaf)
        return (leaf.detach() + eps * gradient.sign()).clamp_(0, 1)
