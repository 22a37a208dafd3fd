"""Gradients at random points between the baseline and the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scotoma.attribution.method import (
    Attribution,
    Score,
    at_once,
    by_channel,
    check_count,
    check_noise,
)
from scotoma.utils.optional import require
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class GradientShap(Attribution):
    """Mean gradient at random points between a baseline and the noisy image, times the path.

    For x', the image with Gaussian noise, and b, either the baseline or the image itself by a fair
    coin (as in Duan et al. 2023), it averages (x' - b) times the gradient at a random point between
    b and x'. Captum's GradientShap draws b from one pool for the whole batch, which compares images
    with each other, and uses global generators. Here each image has its own draws and Captum only
    computes gradients; for a single image both methods have equal distributions.

    Args:
        baseline: see `Attribution`.
        samples: draws for each image; each costs a forward and a backward pass.
        noise: standard deviation in [0, 1] pixel units, for all channels or for each.

    Source: Erion et al. 2021 (expected gradients).

    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> GradientShap(samples=4)(model, torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])).shape
    torch.Size([3, 1, 2, 2])
    """

    samples: int = 50
    noise: float | tuple[float, ...] = 0.01

    def __post_init__(self):
        super().__post_init__()
        check_count(self.samples, "samples")
        check_noise(self.noise)

    def explain(self, score: Score, images: Tensor, origin: Tensor, random: Randomness) -> Tensor:
        method = require("captum.attr", "attribution gradient-shap").Saliency(score)
        deviation = by_channel(self.noise, images, "noise")
        total, room = torch.zeros_like(images), max(1, at_once(images) // len(images))
        for first in range(0, self.samples, room):
            count = min(room, self.samples - first)
            drawn = [self._draw(images, origin, deviation, random) for _ in range(count)]
            points, paths = map(torch.cat, zip(*drawn, strict=True))
            slopes = method.attribute(points.requires_grad_(), abs=False)
            total += (paths * slopes).view(-1, *images.shape).sum(0)
        return total / self.samples

    @staticmethod
    def _draw(
        images: Tensor, origin: Tensor, deviation: Tensor, random: Randomness
    ) -> tuple[Tensor, Tensor]:
        """Return a point for each image, and the path from b to x' that it lies on."""
        noisy = images + deviation * random.normal(images)
        one = images[:, :1, :1, :1]
        start = torch.where(random.uniform(one) < 0.5, origin, images)
        path = noisy - start
        return start + random.uniform(one) * path, path
