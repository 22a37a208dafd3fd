"""Compression: the rounding of JPEG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from scotoma.models.defences.pixels import Jpeg
from scotoma.transforms.strength import Strength


@dataclass(frozen=True)
class JpegQuality(Strength):
    """Rounded coefficients of 8x8 blocks, each channel as luminance (`models.defences.pixels`).

    Args:
        quality: from 1 to 100, which hardly changes anything.

    >>> import torch
    >>> image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> bool((JpegQuality(100)(image) - image).abs().mean() < 0.01)
    True
    """

    quality: int
    strengths: ClassVar = (75, 50, 30, 20)
    colour: ClassVar = True

    def __call__(self, images: Tensor) -> Tensor:
        return Jpeg(nn.Identity(), self.quality).to(images.device)(images).detach()

    def __str__(self) -> str:
        return f"compression to JPEG quality {self.quality}"

    @property
    def point(self) -> tuple[float, ...]:
        """Where `at` gives this transform."""
        return ((100 - self.quality) / 80,)

    @classmethod
    def at(cls, size: float) -> JpegQuality:
        """Return the transform at a point of [-1, 1]: quality 100 at 0, 20 at either end."""
        return cls(round(100 - 80 * abs(size)))
