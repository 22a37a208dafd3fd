"""Ensemble adversarial training: adversarial images from static models (Tramer et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scotoma.models.classifier import Classifier
from scotoma.training.single_step import HalfAdversarial, step
from scotoma.utils.errors import InputError

STEPS = {"fgsm": "predicted", "step-ll": "least likely"}


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

    >>> from scotoma.claim import Threat
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

    def perturb(self, model: nn.Module, images: Tensor, generator: torch.Generator) -> Tensor:
        models = [*(source.module for source in self.sources), model]
        drawn = int(torch.randint(len(models), (1,), generator=generator, device=generator.device))
        source = models[drawn].to(images.device)
        return step(self.threat, source, images, STEPS[self.step])
