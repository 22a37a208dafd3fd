"""Squares of integrated gradients, averaged over noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scotoma.attribution.integrated_gradients import integrate
from scotoma.attribution.method import (
    Attribution,
    Score,
    at_once,
    by_channel,
    check_count,
    check_noise,
)
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class SmoothGrad(Attribution):
    """Mean square of the integrated gradients of the image with Gaussian noise (SmoothGrad squared, Hooker et al. 2019).

    Squares have no sign: no value is below 0, and a Gini coefficient is larger than that of values which are not squared. Captum's
    NoiseTunnel draws from a global generator; here the noise belongs to the image and each sample's map is Captum's.

    Args:
        baseline: as in `Attribution`.
        steps: of each sample's integrated gradients.
        samples: draws of the noise; each costs `steps` forward and backward passes.
        noise: standard deviation in [0, 1] pixel units, for all channels or for each.
    """

    steps: int = 50
    samples: int = 20
    noise: float | tuple[float, ...] = 0.2

    def __post_init__(self):
        super().__post_init__()
        check_count(self.steps, "steps")
        check_count(self.samples, "samples")
        check_noise(self.noise)

    def explain(self, score: Score, images: Tensor, origin: Tensor, random: Randomness) -> Tensor:
        deviation = by_channel(self.noise, images, "noise")
        total, room = torch.zeros_like(images), max(1, at_once(images) // len(images))
        for first in range(0, self.samples, room):
            count = min(room, self.samples - first)
            noisy = torch.cat([images + deviation * random.normal(images) for _ in range(count)])
            maps = integrate(score, noisy, origin.repeat(count, 1, 1, 1), self.steps)
            total += maps.square().view(-1, *images.shape).sum(0)
        return total / self.samples
