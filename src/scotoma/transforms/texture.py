"""Background: a smooth texture where the image is dark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from scotoma.transforms.strength import Strength

PATCHES = 4
"""Random values along each side of the image, between which the texture is smooth."""


@dataclass(frozen=True)
class Texture(Strength):
    """A smooth grey texture over the image, like light: x' = x + strength (1 - x) pattern.

    White stays white. The pattern is random, one for all images and channels, and spans 0 to 1.

    Args:
        strength: largest value of a black background, in [0, 1]; 0 changes nothing.
        seed: seed of the pattern.

    >>> round(Texture(0.25)(torch.zeros(1, 1, 8, 8)).max().item(), 2)
    0.25
    """

    strength: float
    seed: int = 0
    unit: ClassVar = 0.3
    two_sided: ClassVar = False
    strengths: ClassVar = (0.05, 0.1, 0.15, 0.2, 0.3)

    def __call__(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        generator = torch.Generator().manual_seed(self.seed)
        coarse = torch.randn((1, 1, PATCHES, PATCHES), generator=generator)
        pattern = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
        pattern = (pattern - pattern.min()) / (pattern.max() - pattern.min())
        return (images + self.strength * (1 - images) * pattern.to(images)).clamp_(0, 1)

    @property
    def contrast(self) -> float:
        """Share of the range that is left where the texture is lightest; white stays white."""
        return 1 - self.strength

    def __str__(self) -> str:
        return f"texture of strength {self.strength:g}"
