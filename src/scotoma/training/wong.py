"""Provable training with the dual bound (Wong and Kolter 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module

from scotoma.certificates.dual import bound
from scotoma.certificates.layers import read_network
from scotoma.claim import Threat


@dataclass(frozen=True)
class Wong:
    """Training on the worst loss that the dual bound allows (Wong and Kolter 2018, eq. 14).

    The loss is the cross-entropy of the negated lower bounds on the margins, which no image in the
    ball exceeds. The network must consist of convolutions, dense layers and ReLUs.

    Args:
        threat: the ball to be certified in.
        warmup: fraction of the training over which eps grows from a tenth. At full eps the bound of
            an untrained network is so loose that it learns nothing.
        projections: number of Cauchy random projections that estimate the radii of hidden layers
            (Wong et al. 2018, section 3.2, uses 50); None computes them exactly, several times
            slower.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    >>> recipe, images, labels = Wong(Threat("linf", 0.1)), torch.rand(2, 1, 4, 4), [0, 2]
    >>> recipe(model, images, torch.tensor(labels), 0.5, torch.Generator()).shape
    torch.Size([])
    """

    threat: Threat
    warmup: float = 0.4
    projections: int | None = 21

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        eps = self.threat.eps * min(1.0, 0.1 + 0.9 * progress / self.warmup)
        network = read_network(model, tuple(images.shape[1:]))  # type: ignore[arg-type]
        centre, radius = bound(network, images, labels, eps, self.projections, generator)
        return F.cross_entropy((radius - centre).float(), labels)
