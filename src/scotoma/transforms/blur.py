"""Focus: a Gaussian blur."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from scotoma.transforms.strength import Strength

REACH = 4.0
"""Standard deviations after which the kernel ends, as in scipy.ndimage."""


@dataclass(frozen=True)
class Blur(Strength):
    """A Gaussian filter, down and then across; edge pixels continue beyond the edge.

    Args:
        sigma: standard deviation in pixels; 0 changes nothing.

    >>> import torch
    >>> Blur(1.0)(torch.tensor([[[[0.0, 1.0, 0.0]]]])).argmax().item()
    1
    """

    sigma: float
    unit: ClassVar = 1.5
    two_sided: ClassVar = False
    strengths: ClassVar = (0.4, 0.6, 0.8, 1.0, 1.25, 1.5)

    def __call__(self, images: Tensor) -> Tensor:
        radius = int(REACH * self.sigma + 0.5)
        steps = range(-radius, radius + 1)
        kernel = [math.exp(-((k / self.sigma) ** 2) / 2) if k else 1.0 for k in steps]
        for dim, padding in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
            wide, size = F.pad(images, padding, mode="replicate"), images.shape[dim]
            # A sum of shifted images, since a convolution rounds differently in other batch sizes.
            weights = enumerate(weight / sum(kernel) for weight in kernel)
            shifted = (wide.narrow(dim, k, size) * weight for k, weight in weights)
            images = sum(shifted, images.new_zeros(()))
        return images.clamp(0, 1)

    def __str__(self) -> str:
        return f"blur of sigma {self.sigma:g} px"
