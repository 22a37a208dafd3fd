"""Provable training with the dual bound (Wong and Kolter 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.certificates.dual import bound
from scotoma.certificates.layers import read_network
from scotoma.claim import Threat


@dataclass(frozen=True)
class Wong:
    """Training on the worst loss that the dual bound allows inside the ball (Wong and Kolter 2018, eq. 14).

    The cross-entropy of the negated lower bounds on the margins is no smaller than that of any image in the ball. It needs a
    network of convolutions, dense layers and ReLUs.

    Args:
        threat: the ball to be certified in.
        warmup: the share of the training over which eps grows from a tenth to its full size. At full size from the start the
            bound of a fresh network is so loose that it learns to answer nothing.
        projections: Cauchy random projections that estimate the radii of the hidden layers (Wong et al. 2018, section 3.2, where
            it is 50); None computes them exactly, at several times the cost.
    """

    threat: Threat
    warmup: float = 0.4
    projections: int | None = 21

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        eps = self.threat.eps * min(1.0, 0.1 + 0.9 * progress / self.warmup)
        network = read_network(model, tuple(images.shape[1:]))  # type: ignore[arg-type]
        centre, radius = bound(network, images, labels, eps, self.projections, generator)
        return F.cross_entropy((radius - centre).float(), labels)
