"""Pixels that flow to the nearest of some levels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from scotoma.models.defences.base import Defence


class StiffFlow(Defence):
    """Lets pixels flow to the nearest of `levels` stable points, in a few coarse Euler steps.

    The flow dx/dt = -sin(2 pi L x) / (2 pi L), L = levels - 1, has its stable points at multiples
    of 1 / L. One step takes the time `step`, which multiplies a difference by 1 - step near them
    and by 1 + step half way between. After `steps` steps gradients vanish almost everywhere and
    explode at the borders.

    Source: the idea of a classifier behind stable points of a neural ODE of Kang, Song, Ding and
    Tay 2021, "Stable neural ODE with Lyapunov-stable equilibrium points for defending against
    adversarial attacks", on pixels instead of features.
    Broken by: Croce, Gowal, Brunner, Shelhamer, Hein and Cemgil 2022, "Evaluating the adversarial
    robustness of adaptive test-time defenses".

    >>> flow = StiffFlow(nn.Identity(), levels=3)
    >>> flow(torch.tensor([0.1, 0.3, 0.6, 0.9])).round(decimals=2).abs().tolist()
    [0.0, 0.5, 0.5, 1.0]
    """

    def __init__(self, network: nn.Module, levels: int = 16, step: float = 1.5, steps: int = 12):
        super().__init__(network)
        self.levels = levels
        self.step = step
        self.steps = steps

    def forward(self, images: Tensor) -> Tensor:
        wave = 2 * math.pi * (self.levels - 1)
        for _ in range(self.steps):
            images = images - self.step * torch.sin(wave * images) / wave
        return self.network(images)
