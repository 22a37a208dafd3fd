"""Recipes that go with a certificate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module

from scotoma.certificates.dual import bound
from scotoma.certificates.layers import read_network
from scotoma.certificates.wasserstein import GAMMA, losses, transport
from scotoma.threat import Threat


@dataclass(frozen=True)
class Wong:
    """Training on the worst loss that the dual bound allows (Wong and Kolter 2018, eq. 14).

    The loss is the cross-entropy of the negated lower bounds on the margins, which no image in the
    ball exceeds. The network must consist of convolutions, dense layers and ReLUs.

    Args:
        threat: the ball to be certified in, L-inf.
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

    norms: ClassVar = ("linf",)
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


@dataclass(frozen=True)
class WRM:
    """Training on images transported at a quadratic price (Sinha et al. 2018, Algorithm 1).

    This is the Lagrangian of a Wasserstein ball of distributions, not of pixels: transported images
    may leave [0, 1], as in the authors' code, whose values are the defaults.

    Args:
        threat: used by the training log only.
        gamma: price of a squared L2 distance of 1.
        steps: gradient steps of the transport after the first one.
        smoothing: probability that the target gives to the wrong classes, in equal parts.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    >>> recipe, images, labels = WRM(Threat("linf", 0.1)), torch.rand(2, 1, 4, 4), [0, 2]
    >>> recipe(model, images, torch.tensor(labels), 0.5, torch.Generator()).shape
    torch.Size([])
    """

    threat: Threat
    gamma: float = GAMMA
    steps: int = 15
    smoothing: float = 0.1

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        moved = transport(model, images, labels, self.gamma, self.steps, self.smoothing)
        return losses(model(moved), labels, self.smoothing).mean()
