"""Analysis by synthesis: a variational autoencoder for each class (Schott et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.nn import Module

from scotoma.claim import Threat
from scotoma.data.dataset import Split
from scotoma.models.synthesis import AnalysisBySynthesis
from scotoma.utils.errors import InputError

CALIBRATED = 500
"""Training images on which the posterior is calibrated."""


@dataclass(frozen=True)
class Synthesis:
    """Training each class's autoencoder on its own images: |x - G(z)|^2 + beta KL.

    z is drawn around the encoder's mean. Up to a factor this is the evidence bound with a Gaussian
    likelihood (Schott et al. 2019, eq. 5, and the authors' code). No image is perturbed.

    Args:
        threat: used by the training log only.
        beta: weight of the divergence from the latent's prior.

    >>> Synthesis(Threat("l2", 1.5)).arch
    'abs'
    """

    arch: ClassVar = "abs"
    claim: ClassVar = "l2:1.5"
    rate: ClassVar = 3e-3
    balanced: ClassVar = True
    evaluated: ClassVar = 100
    threat: Threat
    beta: float = 1.0

    def finish(self, model: Module, split: Split) -> None:
        """Calibrate the posterior on the first `CALIBRATED` training images."""
        assert isinstance(model, AnalysisBySynthesis)
        rows = torch.arange(min(CALIBRATED, len(split)))
        device = model.floor.device
        model.calibrate(split.images(rows).to(device), split.labels[rows].to(device))

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        if not isinstance(model, AnalysisBySynthesis):
            raise InputError(
                "recipe abs trains arch=abs or arch=binary-abs, with a generative model a class"
            )
        classes = model.vaes.classes
        turns = images.contiguous().view(-1, classes, *images.shape[1:])
        made, mean, log_variance = model.vaes(model.binarise(turns), generator)
        missed = (model.binarise(turns) - made).square().sum()
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
        return (missed + self.beta * divergence) / len(images)
