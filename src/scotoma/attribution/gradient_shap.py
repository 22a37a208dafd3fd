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
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class GradientShap(Attribution):
    """Mean of (x' - b) times the gradient at a random point from b to x' (expected gradients, Erion et al. 2021), where x' is the
    image with Gaussian noise and b, as in Duan et al. 2023, the baseline or the image itself, by a fair coin.

    Captum's GradientShap draws b from one pool for the whole batch, so that an image would be held against the others, and draws
    from global generators. Here the draws belong to the image and only the gradients are Captum's; for a single image the two
    methods have the same distribution.

    Args:
        baseline: as in `Attribution`.
        samples: draws an image; each costs a forward and a backward pass.
        noise: standard deviation in [0, 1] pixel units, for all channels or for each.
    """

    samples: int = 50
    noise: float | tuple[float, ...] = 0.01

    def __post_init__(self):
        super().__post_init__()
        check_count(self.samples, "samples")
        check_noise(self.noise)

    def explain(self, score: Score, images: Tensor, origin: Tensor, random: Randomness) -> Tensor:
        from captum.attr import Saliency

        method, deviation = Saliency(score), by_channel(self.noise, images, "noise")
        total, room = torch.zeros_like(images), max(1, at_once(images) // len(images))
        for first in range(0, self.samples, room):
            drawn = [
                self._draw(images, origin, deviation, random)
                for _ in range(min(room, self.samples - first))
            ]
            points, ways = (torch.cat(parts) for parts in zip(*drawn, strict=True))
            slopes = method.attribute(points.requires_grad_(), abs=False)
            total += (ways * slopes).view(-1, *images.shape).sum(0)
        return total / self.samples

    @staticmethod
    def _draw(
        images: Tensor, origin: Tensor, deviation: Tensor, random: Randomness
    ) -> tuple[Tensor, Tensor]:
        """A point for each image, and the way from b to x' on which it lies."""
        noisy = images + deviation * random.normal(images)
        one = images[:, :1, :1, :1]
        start = torch.where(random.uniform(one) < 0.5, origin, images)
        way = noisy - start
        return start + random.uniform(one) * way, way
