"""Distributionally robust training (WRM, Sinha et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Generator, Tensor
from torch.nn import Module

from scotoma.certificates.wasserstein import GAMMA, losses, transport
from scotoma.claim import Threat


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
