"""Adversarial training in a single gradient step, and its remedies for masked gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module

from scotoma.models.classifier import Classifier
from scotoma.threat import Threat
from scotoma.training.recipe import AdversarialTraining
from scotoma.utils.errors import InputError

STEPS = {"fgsm": "predicted", "step-ll": "least likely"}
"""Class that a step leads away from or towards, by the name of the step."""


@dataclass(frozen=True)
class HalfAdversarial(ABC):
    """Half of the loss on clean images, half on adversarial ones (Tramer et al. 2018, section 4).

    Args:
        threat: the ball to be robust in.
    """

    threat: Threat

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        adversarial = self.perturb(model, images, generator)
        return F.cross_entropy(model(torch.cat([images, adversarial])).float(), labels.repeat(2))

    @abstractmethod
    def perturb(self, model: Module, images: Tensor, generator: Generator) -> Tensor:
        """Return the adversarial images to learn from, (n, c, h, w) inside the threat."""


@dataclass(frozen=True)
class FGSMTraining(HalfAdversarial):
    """One signed-gradient step away from the label that the model itself predicts.

    A step from the true label would tell the model which label it is (Kurakin et al. 2017, section
    4.4). This training has a degenerate minimum in which the model spoils its own gradient (Tramer
    et al. 2018, section 3.3): audit the model with the `masking` probe.

    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    >>> images, recipe = torch.rand(2, 1, 4, 4), FGSMTraining(Threat("linf", 0.1))
    >>> bool((recipe.perturb(model, images, torch.Generator()) - images).abs().max() <= 0.1001)
    True
    """

    def perturb(self, model: Module, images: Tensor, generator: Generator) -> Tensor:
        return step(self.threat, model, images, "predicted")


@dataclass(frozen=True)
class StepLLTraining(HalfAdversarial):
    """One signed-gradient step towards the least likely class (Kurakin et al. 2017, section 3).

    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    >>> images, recipe = torch.rand(2, 1, 4, 4), StepLLTraining(Threat("linf", 0.1))
    >>> recipe.perturb(model, images, torch.Generator()).shape
    torch.Size([2, 1, 4, 4])
    """

    def perturb(self, model: Module, images: Tensor, generator: Generator) -> Tensor:
        return step(self.threat, model, images, "least likely")


@dataclass(frozen=True)
class RandFGSMTraining(HalfAdversarial):
    """A random signed step of alpha, a gradient step of eps - alpha (Tramer et al. 2018, eq. 5).

    Args:
        threat: the ball to be robust in.
        alpha: length of the random step as a fraction of eps; the paper's is 1/2.

    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    >>> images, recipe = torch.rand(2, 1, 4, 4), RandFGSMTraining(Threat("linf", 0.1))
    >>> recipe.perturb(model, images, torch.Generator()).shape
    torch.Size([2, 1, 4, 4])
    """

    alpha: float = 0.5

    def perturb(self, model: Module, images: Tensor, generator: Generator) -> Tensor:
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        start = self.threat.project(images + self.alpha * self.threat.steepest(noise), images)
        rest = Threat(self.threat.norm, (1 - self.alpha) * self.threat.eps)
        return self.threat.project(step(rest, model, start, "predicted"), images)


@dataclass(frozen=True)
class FastTraining(AdversarialTraining):
    """FGSM from a uniform start with a step larger than eps (Wong et al. 2020, Algorithm 3).

    It is as good as PGD training until it overfits catastrophically: within an epoch the robust
    accuracy falls to 0 while the model withstands its own step. The training log reports that.

    Args:
        threat: the ball to be robust in.
        step: length of the gradient step as a multiple of eps.
        warmup: fraction of the training over which eps grows from 0.

    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    >>> recipe, images, labels = FastTraining(Threat("linf", 0.1)), torch.rand(2, 1, 4, 4), [0, 2]
    >>> recipe(model, images, torch.tensor(labels), 0.5, torch.Generator()).shape
    torch.Size([])
    """

    step: float = 1.25
    warmup: float = 0.1

    def perturb(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        threat = self.grown(progress, self.warmup)
        start = torch.rand(images.shape, generator=generator, device=images.device)
        start = start.mul_(2).sub_(1).mul_(threat.eps).add_(images)
        leaf = threat.project(start, images).requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(leaf).float(), labels), leaf)
        return threat.project(leaf.detach() + self.step * threat.steepest(gradient), images)


@dataclass(frozen=True)
class NoiseFGSM(AdversarialTraining):
    """N-FGSM: one signed-gradient step of size eps from strong uniform noise, two passes a batch.

    Single-step training usually collapses: after some epochs the network is robust to its own step
    only (Wong et al. 2020). Noise beyond eps without a projection back to the ball prevents that at
    the usual sizes (de Jorge et al. 2022, Algorithm 1). The adversarial images lie up to
    (noise + 1) eps from the originals.

    Args:
        threat: the ball to be robust in, L-inf.
        noise: half-width of the uniform noise, as a multiple of eps.
        warmup: fraction of the training over which eps grows from 0.

    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    >>> recipe, images, labels = NoiseFGSM(Threat("linf", 0.1)), torch.rand(2, 1, 4, 4), [0, 2]
    >>> recipe(model, images, torch.tensor(labels), 0.5, torch.Generator()).shape
    torch.Size([])
    """

    norms: ClassVar = ("linf",)
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


@dataclass(frozen=True)
class EnsembleTraining(HalfAdversarial):
    """Half of the loss on single-step adversarial images of static models or the model itself.

    One of them is drawn for each batch (Tramer et al. 2018, section 3.4 and the authors' code).
    This defends against examples made on other models only: iterated attacks on the model itself
    still succeed.

    Args:
        threat: the ball to be robust in.
        sources: trained models; they are not changed.
        step: "fgsm", away from the source's prediction (the paper on MNIST), or "step-ll", towards
            its least likely class (on ImageNet).

    Raises:
        InputError: no source, or an unknown step.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    >>> recipe = EnsembleTraining(Threat("linf", 0.1), sources=(Classifier.of(net, "net"),))
    >>> recipe.perturb(net, torch.rand(2, 1, 4, 4), torch.Generator()).shape
    torch.Size([2, 1, 4, 4])
    """

    sources: tuple[Classifier, ...] = ()
    step: str = "fgsm"

    def __post_init__(self):
        if not self.sources:
            raise InputError(
                "recipe ensemble needs trained models to make examples on; set sources=MODEL,MODEL"
            )
        if self.step not in STEPS:
            raise InputError(f"step {self.step!r} of recipe ensemble; want {' or '.join(STEPS)}")

    def perturb(self, model: Module, images: Tensor, generator: Generator) -> Tensor:
        models = [*(source.module for source in self.sources), model]
        drawn = int(torch.randint(len(models), (1,), generator=generator, device=generator.device))
        source = models[drawn].to(images.device)
        return step(self.threat, source, images, STEPS[self.step])


def step(threat: Threat, model: Module, images: Tensor, label: str) -> Tensor:
    """Return images after one step of the size of `threat`, inside [0, 1].

    The step leads away from the class "predicted" or towards the class "least likely".
    """
    leaf = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(leaf).float()
        away = label == "predicted"
        classes = logits.argmax(1) if away else logits.argmin(1)
        loss = F.cross_entropy(logits, classes)
        (gradient,) = torch.autograd.grad(loss if away else -loss, leaf)
    return (images + threat.steepest(gradient)).clamp_(0, 1)
