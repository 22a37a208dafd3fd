"""Distributionally robust training (WRM, Sinha et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scotoma.certificates.wasserstein import GAMMA, losses, transport
from scotoma.claim import Threat


@dataclass(frozen=True)
class WRM:
    """Training on images moved against a quadratic price: the Lagrangian of a Wasserstein ball (Sinha et al. 2018, Algorithm 1).

    The moved images leave [0, 1], as in the authors' code: the ball is one of distributions, not of pixels, and `threat` sets
    only what the training log measures. Defaults are those of the authors' code.

    Args:
        threat: not used in training.
        gamma: price of a squared L2 distance of 1; a loss is worth a move if it gains more than that.
        steps: gradient steps of the move after the first one.
        smoothing: what the target leaves for the wrong classes, in equal parts.
    """

    threat: Threat
    gamma: float = GAMMA
    steps: int = 15
    smoothing: float = 0.1

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        moved = transport(model, images, labels, self.gamma, self.steps, self.smoothing)
        return losses(model(moved), labels, self.smoothing).mean()
