"""Background: a smooth texture where the image is dark."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PATCHES = 4
"""Random values along each side of the image, between which the texture is smooth."""


@dataclass(frozen=True)
class Texture:
    """A smooth grey texture laid over the image like light: x' = x + strength (1 - x) pattern, white stays white.

    The pattern is random, the same for every image and channel, and reaches from 0 to 1.

    Args:
        strength: how light a black background becomes at most, in [0, 1]; 0 changes nothing.
        seed: of the pattern.
    """

    strength: float
    seed: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        coarse = torch.randn(
            (1, 1, PATCHES, PATCHES), generator=torch.Generator().manual_seed(self.seed)
        )
        pattern = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
        pattern = (pattern - pattern.min()) / (pattern.max() - pattern.min())
        return (images + self.strength * (1 - images) * pattern.to(images)).clamp_(0, 1)

    def __str__(self) -> str:
        return f"texture of strength {self.strength:g}"

    @classmethod
    def sweep(cls) -> tuple[Texture, ...]:
        """Strengths that `scotoma map` tries; only harmless ones count."""
        return tuple(map(cls, (0.05, 0.1, 0.15, 0.2, 0.3)))
