"""Input gradient distillation: adversarial training with the input gradients of a natural teacher (Chen et al. 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.classifier import Classifier
from scotoma.models.error_summary import reason
from scotoma.training.madry import PGDTraining
from scotoma.utils.errors import InputError


@dataclass(frozen=True)
class InputGradientDistillation(PGDTraining):
    """PGD training that also aligns the gradient by the clean image with a natural teacher's, against unequal attribution.

    The loss is CE(f(x'), y) + weight * (1 - cos(grad_x f_y(x), grad_x t_y(x))), its mean over a batch: f the model, t the teacher,
    x' the adversarial image and x the image as it is. Published is that l_inf adversarial training aligns input gradients with a
    naturally trained teacher's by their cosine (Chen, Dong, Xie & Lai, 2305.09305, abstract). The exact loss could not be read:
    its form, the clean image as the place and the weight are this project's. So is the logit of the true class, which is what
    attributions explain, and whose gradient does not vanish where a confident teacher's cross-entropy has none.

    Args:
        threat: the ball to be robust in.
        steps: PGD steps for each batch.
        warmup: the share of the training over which eps grows from 0 to its full size.
        sources: the teacher, one trained model of the same images and classes, which stays as it is.
        weight: of the alignment, from 0, which is PGD training.

    Raises:
        InputError: not one teacher, or a weight below 0; in training, a teacher of other images or classes or without a gradient.
    """

    sources: tuple[Classifier, ...] = ()
    weight: float = 1.0

    def __post_init__(self):
        if len(self.sources) != 1:
            raise InputError(
                f"recipe igd learns from one naturally trained teacher, and was given {len(self.sources)}; give sources=MODEL"
            )
        if not 0 <= self.weight < math.inf:
            raise InputError(f"weight {self.weight:g} of recipe igd; want a number from 0")

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        loss = super().__call__(model, images, labels, progress, generator)
        return (
            loss + self.weight * (1 - self.alignment(model, images, labels).mean())
            if self.weight
            else loss
        )

    def alignment(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Cosine of the model's and the teacher's gradient of the true class's logit by each image, float32 (n,) in [-1, 1].

        It can be differentiated by the model's weights; 0 where a gradient vanishes.
        """
        leaf = images.detach().requires_grad_()
        logits = model(leaf)
        (gradient,) = torch.autograd.grad(_of_class(logits, labels), leaf, create_graph=True)
        wanted = self._wanted(images, labels, logits.shape[1])
        return F.cosine_similarity(gradient.float().flatten(1), wanted.float().flatten(1))

    def _wanted(self, images: Tensor, labels: Tensor, classes: int) -> Tensor:
        """The teacher's gradient of the true class's logit by each image, (n, c, h, w)."""
        (teacher,) = self.sources
        leaf = images.detach().requires_grad_()
        try:
            logits = teacher.module.to(images.device)(leaf)
        except Exception as error:  # the user's code may raise anything
            shape = "x".join(map(str, images.shape[1:]))
            raise InputError(
                f"teacher {teacher.name} of recipe igd cannot take images of {shape}: {reason(error)}"
            ) from None
        if logits.shape != (len(images), classes):
            raise InputError(
                f"teacher {teacher.name} of recipe igd returns {tuple(logits.shape)} for {len(images)} images of {classes} "
                "classes; give one that was trained on the same data"
            )
        gradient = (
            torch.autograd.grad(_of_class(logits, labels), leaf)[0]
            if logits.requires_grad
            else torch.zeros(())
        )
        if not bool(gradient.isfinite().all() and gradient.any()):
            raise InputError(
                f"teacher {teacher.name} of recipe igd has no gradient by images to follow; give a network that has"
            )
        return gradient


def _of_class(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum over images of the logit of each one's class: its gradient by an image is that of the image's own logit."""
    return logits.float().gather(1, labels[:, None]).sum()
