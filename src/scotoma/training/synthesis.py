"""Training of analysis by synthesis: a variational autoencoder a class (Schott et al. 2019, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.claim import Threat
from scotoma.data.dataset import Split
from scotoma.models.synthesis import AnalysisBySynthesis
from scotoma.utils.errors import InputError

CALIBRATED = 500


@dataclass(frozen=True)
class Synthesis:
    """Each image trains the autoencoder of its own class: |x - G(z)|^2 + beta KL, z drawn around the encoder's mean.

    The evidence bound with a Gaussian likelihood, up to a factor (Schott et al. 2019, eq. 5, and the authors' code). No image is
    perturbed and no class sees another's images.

    Args:
        threat: only what the audit of the finished model is about; nothing here depends on it.
        beta: weight of the divergence from the latent's prior.
    """

    arch: ClassVar = "abs"
    claim: ClassVar = "l2:1.5"
    rate: ClassVar = 3e-3
    balanced: ClassVar = True
    evaluated: ClassVar = 100
    threat: Threat
    beta: float = 1.0

    def finish(self, model: nn.Module, split: Split) -> None:
        """Calibrate the posterior on the first `CALIBRATED` training images."""
        assert isinstance(model, AnalysisBySynthesis)
        rows = torch.arange(min(CALIBRATED, len(split)))
        device = model.floor.device
        model.calibrate(split.images(rows).to(device), split.labels[rows].to(device))

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        if not isinstance(model, AnalysisBySynthesis):
            raise InputError(
                "recipe abs trains arch=abs or arch=binary-abs, whose classes have a generative model each"
            )
        classes = model.vaes.classes
        turns = images.contiguous().view(-1, classes, *images.shape[1:])
        made, mean, log_variance = model.vaes(model.binarise(turns), generator)
        missed = (model.binarise(turns) - made).square().sum()
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
        return (missed + self.beta * divergence) / len(images)
