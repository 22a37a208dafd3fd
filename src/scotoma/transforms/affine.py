"""Position: small rotations and translations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from scotoma.transforms.strength import Strength

Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1))
"""Right, left, down and up."""


@dataclass(frozen=True)
class Rotate(Strength):
    """A bilinear rotation about the centre of the image.

    Args:
        degrees: angle, anticlockwise; 0 changes nothing.

    >>> image = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    >>> Rotate(90)(image).round().tolist()
    [[[[0.0, 0.0], [1.0, 0.0]]]]
    """

    degrees: float
    unit: ClassVar = 15
    digits: ClassVar = 3
    strengths: ClassVar = (-15, -10, -5, 5, 10, 15)

    def __call__(self, images: Tensor) -> Tensor:
        cosine, sine = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        return _resample(images, ((cosine, -sine, 0.0), (sine, cosine, 0.0)))

    def __str__(self) -> str:
        return f"rotation by {self.degrees:g} degrees"


@dataclass(frozen=True)
class Translate:
    """A translation of the image, bilinear between pixels.

    Args:
        right: pixels, negative to the left; a fraction of a pixel blurs a little.
        down: pixels, negative upwards.

    >>> Translate(right=1, down=0)(torch.tensor([[[[0.0, 1.0, 0.0]]]])).round().tolist()
    [[[[0.0, 0.0, 1.0]]]]
    """

    right: float
    down: float
    parameters: ClassVar = 2

    def __call__(self, images: Tensor) -> Tensor:
        return _resample(images, ((1.0, 0.0, -self.right), (0.0, 1.0, -self.down)))

    def __str__(self) -> str:
        sides = ((self.right, "right", "left"), (self.down, "down", "up"))
        shifts = [f"{abs(by):g} px {ahead if by > 0 else back}" for by, ahead, back in sides if by]
        return f"shift by {' and '.join(shifts) or 'nothing'}"

    @property
    def point(self) -> tuple[float, ...]:
        """Where `at` gives this transform."""
        return self.right / 2, self.down / 2

    @classmethod
    def at(cls, right: float, down: float) -> Translate:
        """Return the transform at a point of [-1, 1]^2: up to 2 pixels each way."""
        return cls(round(2 * right, 3), round(2 * down, 3))

    @classmethod
    def sweep(cls) -> tuple[Translate, ...]:
        """Strengths that `scotoma map` tries; only harmless ones count."""
        return tuple(cls(p * x, p * y) for p in (0.5, 1.0, 2.0) for x, y in SIDES)


def _resample(images: Tensor, matrix: Matrix) -> Tensor:
    """Resample: pixel p of the result is the image at `matrix` (p, 1), in pixels from the centre.

    Edge pixels continue beyond the edge, so that no frame appears. Coordinates are float64, since
    rounded ones would change an image under the identity.
    """
    height, width = images.shape[2:]
    (a, b, right), (c, d, down) = matrix
    scaled = torch.tensor(
        [[a, b * height / width, 2 * right / width], [c * width / height, d, 2 * down / height]],
        dtype=torch.float64,
        device=images.device,
    )
    grid = F.affine_grid(scaled.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    resampled = F.grid_sample(images.double(), grid, padding_mode="border", align_corners=False)
    return resampled.to(images.dtype).clamp_(0, 1)
