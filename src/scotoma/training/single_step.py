"""Adversarial training in a single gradient step, and what it was given against masked gradients (Tramer et al. 2018)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.claim import Threat


@dataclass(frozen=True)
class _HalfAdversarial(ABC):
    """Half the loss on the images as they are, half on adversarial ones (Tramer et al. 2018, section 4; Goodfellow et al. 2015).

    Args:
        threat: the ball to be robust in.
    """

    threat: Threat

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        adversarial = self.perturb(model, images, generator)
        return F.cross_entropy(model(torch.cat([images, adversarial])).float(), labels.repeat(2))

    @abstractmethod
    def perturb(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        """The adversarial images to learn from, (n, c, h, w) inside the threat."""


@dataclass(frozen=True)
class FGSMTraining(_HalfAdversarial):
    """One signed-gradient step away from the label that the model itself predicts.

    The true label would leak: the step would tell the model which it is (Kurakin et al. 2017, section 4.4). This training has
    a degenerate minimum at which the model spoils its own gradient (Tramer et al. 2018, section 3.3): audit what it gives with
    the `masking` probe.
    """

    def perturb(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        return step(self.threat, model, images, "predicted")


@dataclass(frozen=True)
class StepLLTraining(_HalfAdversarial):
    """One signed-gradient step towards the class that the model finds least likely (Kurakin et al. 2017, section 3)."""

    def perturb(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        return step(self.threat, model, images, "least likely")


@dataclass(frozen=True)
class RandFGSMTraining(_HalfAdversarial):
    """A random signed step of alpha, then a gradient step of eps - alpha (R+FGSM, Tramer et al. 2018, eq. 5).

    Args:
        threat: the ball to be robust in.
        alpha: length of the random step as a share of eps; the paper's is 1/2.
    """

    alpha: float = 0.5

    def perturb(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        start = self.threat.project(images + self.alpha * self.threat.steepest(noise), images)
        rest = Threat(self.threat.norm, (1 - self.alpha) * self.threat.eps)
        return self.threat.project(step(rest, model, start, "predicted"), images)


@dataclass(frozen=True)
class FastTraining:
    """FGSM from a uniform start with a step beyond the ball, on adversarial images alone (Wong et al. 2020, Algorithm 3).

    As good as PGD training until it overfits catastrophically: within an epoch robust accuracy falls to nothing while the model
    stays right under its own step. The training log watches for that and names it.

    Args:
        threat: the ball to be robust in.
        step: length of the gradient step as a multiple of eps.
        warmup: the share of the training over which eps grows from 0 to its full size.
    """

    threat: Threat
    step: float = 1.25
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
        """The adversarial images to learn from, (n, c, h, w) inside the threat."""
        threat = Threat(
            self.threat.norm, self.threat.eps * min(1.0, max(progress, 1e-3) / self.warmup)
        )
        start = (
            torch.rand(images.shape, generator=generator, device=images.device)
            .mul_(2)
            .sub_(1)
            .mul_(threat.eps)
            .add_(images)
        )
        leaf = threat.project(start, images).requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(leaf).float(), labels), leaf)
        return threat.project(leaf.detach() + self.step * threat.steepest(gradient), images)


def step(threat: Threat, model: nn.Module, images: Tensor, label: str) -> Tensor:
    """Images moved by the size of `threat`, away from the predicted class or towards the least likely one, inside [0, 1]."""
    leaf = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(leaf).float()
        away = label == "predicted"
        classes = logits.argmax(1) if away else logits.argmin(1)
        loss = F.cross_entropy(logits, classes)
        (gradient,) = torch.autograd.grad(loss if away else -loss, leaf)
    return (images + threat.steepest(gradient)).clamp_(0, 1)
