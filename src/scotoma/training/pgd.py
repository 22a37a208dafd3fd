"""Adversarial training with projected gradient descent, alone or with a natural teacher."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module

from scotoma.models.classifier import Classifier
from scotoma.training.recipe import AdversarialTraining
from scotoma.utils.errors import InputError, reason


@dataclass(frozen=True)
class PGDTraining(AdversarialTraining):
    """Training on adversarial images of PGD from random starts (Madry et al. 2018, eq. 2.1).

    Args:
        threat: the ball to be robust in.
        steps: PGD steps for each batch.
        warmup: fraction of the training over which eps grows from 0. Without it a network at large
            eps cannot learn from its first images and stays at chance.

    >>> from scotoma.threat import Threat
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


@dataclass(frozen=True)
class InputGradientDistillation(PGDTraining):
    """PGD training that aligns input gradients with a natural teacher's, for equal attribution.

    The loss is the batch mean of CE(f(x'), y) + weight * (1 - cos(grad_x f_y(x), grad_x t_y(x))),
    with model f, teacher t, adversarial image x', clean image x. The paper aligns input gradients
    with those of a naturally trained teacher by their cosine during L-inf adversarial training
    (Chen, Dong, Xie & Lai, 2305.09305, abstract). We could not read its exact loss: its form, the
    gradient at the clean image and the weight are ours. We take the logit of the true class, which
    attributions explain; its gradient does not vanish when a confident teacher's loss does.

    Args:
        threat, steps, warmup: as in `PGDTraining`.
        sources: the teacher, one trained model of the same images and classes; it is not changed.
        weight: weight of the alignment, from 0 (PGD training).

    Raises:
        InputError: not one teacher, or a weight below 0; in training, a teacher of other images or
            classes, or one without a gradient.

    >>> from scotoma.threat import Threat
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    >>> teacher = Classifier.of(net, "net")
    >>> recipe = InputGradientDistillation(Threat("linf", 0.1), sources=(teacher,))
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    >>> recipe.alignment(model, torch.rand(2, 1, 4, 4), torch.tensor([0, 2])).shape
    torch.Size([2])
    """

    sources: tuple[Classifier, ...] = ()
    weight: float = 1.0

    def __post_init__(self):
        if len(self.sources) != 1:
            raise InputError(
                f"recipe igd needs one naturally trained teacher, not {len(self.sources)}; "
                "set sources=MODEL"
            )
        if not 0 <= self.weight < math.inf:
            raise InputError(f"weight {self.weight:g} of recipe igd; want a number from 0")

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        loss = super().__call__(model, images, labels, progress, generator)
        if not self.weight:
            return loss
        return loss + self.weight * (1 - self.alignment(model, images, labels).mean())

    def alignment(self, model: Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the cosine between the model's and the teacher's input gradients.

        The gradients are of the true class's logit. float32 (n,) in [-1, 1], differentiable by the
        model's weights; 0 where a gradient vanishes.
        """
        leaf = images.detach().requires_grad_()
        logits = model(leaf)
        (gradient,) = torch.autograd.grad(_of_class(logits, labels), leaf, create_graph=True)
        wanted = self._wanted(images, labels, logits.shape[1])
        return F.cosine_similarity(gradient.float().flatten(1), wanted.float().flatten(1))

    def _wanted(self, images: Tensor, labels: Tensor, classes: int) -> Tensor:
        """Return the teacher's input gradient of the true class's logit, (n, c, h, w)."""
        (teacher,) = self.sources
        named = f"teacher {teacher.name} of recipe igd"
        leaf = images.detach().requires_grad_()
        try:
            logits = teacher.module.to(images.device)(leaf)
        except Exception as error:  # the user's code may raise anything
            shape = "x".join(map(str, images.shape[1:]))
            raise InputError(f"{named} cannot take images of {shape}: {reason(error)}") from None
        if logits.shape != (len(images), classes):
            raise InputError(
                f"{named} returns {tuple(logits.shape)} for {len(images)} images of {classes} "
                "classes; choose one trained on the same data"
            )
        gradient = (
            torch.autograd.grad(_of_class(logits, labels), leaf)[0]
            if logits.requires_grad
            else torch.zeros(())
        )
        if not bool(gradient.isfinite().all() and gradient.any()):
            raise InputError(f"{named} has no input gradient; choose a differentiable network")
        return gradient


def _of_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of the true classes' logits, whose gradient by an image is its own logit's."""
    return logits.float().gather(1, labels[:, None]).sum()
