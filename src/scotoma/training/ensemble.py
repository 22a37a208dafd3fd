"""Ensemble adversarial training: adversarial images from other models, which cannot learn to hide (Tramer et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scotoma.models.classifier import Classifier
from scotoma.training.single_step import _HalfAdversarial, step
from scotoma.utils.errors import InputError

STEPS = {"fgsm": "predicted", "step-ll": "least likely"}


@dataclass(frozen=True)
class EnsembleTraining(_HalfAdversarial):
    """Half of the loss on single-step adversarial images of static models or of the model itself, one of them drawn for each
    batch (Tramer et al. 2018, section 3.4 and, for the draw, the authors' code).

    It defends against examples made on other models. Iterated attacks on the model itself still succeed: never take it for
    robust to those.

    Args:
        threat: the ball to be robust in.
        sources: trained models, which stay as they are.
        step: "fgsm", away from the source's prediction (the paper on MNIST), or "step-ll", towards the class that is least
            likely to it (on ImageNet).
    """

    sources: tuple[Classifier, ...] = ()
    step: str = "fgsm"

    def __post_init__(self):
        if not self.sources:
            raise InputError(
                "recipe ensemble needs trained models to take examples from; give sources=MODEL,MODEL"
            )
        if self.step not in STEPS:
            raise InputError(f"step {self.step!r} of recipe ensemble; want {' or '.join(STEPS)}")

    def perturb(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        models = [*(source.module for source in self.sources), model]
        drawn = int(torch.randint(len(models), (1,), generator=generator, device=generator.device))
        source = models[drawn].to(images.device)
        return step(self.threat, source, images, STEPS[self.step])
