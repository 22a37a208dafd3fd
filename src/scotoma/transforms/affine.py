"""Position: small rotations and translations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]
WAYS = ((1, 0), (-1, 0), (0, 1), (0, -1))
"""Right, left, down and up."""


@dataclass(frozen=True)
class Rotate:
    """A rotation about the image's centre, bilinear.

    Args:
        degrees: anticlockwise; 0 changes nothing.
    """

    degrees: float

    def __call__(self, images: Tensor) -> Tensor:
        cosine, sine = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        return _resample(images, ((cosine, -sine, 0.0), (sine, cosine, 0.0)))

    def __str__(self) -> str:
        return f"rotation by {self.degrees:g} degrees"

    @classmethod
    def sweep(cls) -> tuple[Rotate, ...]:
        """Strengths that `scotoma map` tries; only harmless ones count."""
        return tuple(map(cls, (-15, -10, -5, 5, 10, 15)))


@dataclass(frozen=True)
class Translate:
    """A shift of the image, bilinear between pixels.

    Args:
        right: in pixels, negative to the left; a fraction of a pixel blurs a little.
        down: in pixels, negative upwards.
    """

    right: float
    down: float

    def __call__(self, images: Tensor) -> Tensor:
        return _resample(images, ((1.0, 0.0, -self.right), (0.0, 1.0, -self.down)))

    def __str__(self) -> str:
        ways = ((self.right, "right", "left"), (self.down, "down", "up"))
        parts = [
            f"{abs(pixels):g} px {ahead if pixels > 0 else back}"
            for pixels, ahead, back in ways
            if pixels
        ]
        return f"shift by {' and '.join(parts) or 'nothing'}"

    @classmethod
    def sweep(cls) -> tuple[Translate, ...]:
        """Strengths that `scotoma map` tries; only harmless ones count."""
        return tuple(cls(p * x, p * y) for p in (0.5, 1.0, 2.0) for x, y in WAYS)


def _resample(images: Tensor, matrix: Matrix) -> Tensor:
    """Images whose pixel at p shows what is at `matrix` (p, 1) in those given, in pixels from the centre.

    Beyond the edge its own pixels go on, so that no frame appears: black where the border is black. In float64, since
    rounded coordinates would change an image that does not move.
    """
    height, width = images.shape[2:]
    (a, b, right), (c, d, down) = matrix
    scaled = torch.tensor(
        [[a, b * height / width, 2 * right / width], [c * width / height, d, 2 * down / height]],
        dtype=torch.float64,
        device=images.device,
    )
    grid = F.affine_grid(scaled.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    moved = F.grid_sample(
        images.double(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return moved.to(images.dtype).clamp_(0, 1)
