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
    """The mean square of the integrated gradients of images with Gaussian noise.

    Squares have no sign, so no value is below 0, and their Gini coefficient is larger than that of
    values without squares. Captum's NoiseTunnel uses a global generator; here each image has its
    own noise, and the map of each sample is Captum's.

    Args:
        baseline: see `Attribution`.
        steps: steps of the integrated gradients of each sample.
        samples: draws of the noise; each costs `steps` forward and backward passes.
        noise: standard deviation in [0, 1] pixel units, for all channels or for each.

    Source: Hooker et al. 2019 (SmoothGrad squared).

    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> images, labels = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])
    >>> bool((SmoothGrad(steps=4, samples=2)(model, images, labels) >= 0).all())
    True
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
