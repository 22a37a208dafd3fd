"""Focus: a Gaussian blur."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

REACH = 4.0
"""Standard deviations after which the kernel ends, as in scipy.ndimage."""


@dataclass(frozen=True)
class Blur:
    """A Gaussian filter, down and then across; beyond the edge the edge's own pixels go on.

    Args:
        sigma: the Gaussian's standard deviation in pixels; 0 changes nothing.
    """

    sigma: float

    def __call__(self, images: Tensor) -> Tensor:
        radius = int(REACH * self.sigma + 0.5)
        kernel = [
            math.exp(-((k / self.sigma) ** 2) / 2) if k else 1.0 for k in range(-radius, radius + 1)
        ]
        for dim, padding in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
            wide, size = F.pad(images, padding, mode="replicate"), images.shape[dim]
            # a sum of shifted images: a convolution rounds differently in batches of different sizes
            shifted = (
                wide.narrow(dim, k, size) * (weight / sum(kernel))
                for k, weight in enumerate(kernel)
            )
            images = sum(shifted, images.new_zeros(()))
        return images.clamp(0, 1)

    def __str__(self) -> str:
        return f"blur of sigma {self.sigma:g} px"

    @classmethod
    def sweep(cls) -> tuple[Blur, ...]:
        """Strengths that `scotoma map` tries; only harmless ones count."""
        return tuple(map(cls, (0.4, 0.6, 0.8, 1.0, 1.25, 1.5)))
