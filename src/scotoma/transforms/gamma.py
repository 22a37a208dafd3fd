"""Tone: darker or lighter middle greys, with black and white unchanged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from scotoma.transforms.strength import Strength


@dataclass(frozen=True)
class Gamma(Strength):
    """Every pixel raised to a power: x' = x^exponent.

    Args:
        exponent: above 0; below 1 middle greys become lighter, above 1 darker, 1 changes nothing.

    >>> import torch
    >>> Gamma(2.0)(torch.tensor([[[[0.0, 0.5, 1.0]]]])).tolist()
    [[[[0.0, 0.25, 1.0]]]]
    """

    exponent: float
    strengths: ClassVar = (0.4, 0.6, 0.8, 1.25, 1.75, 2.5)

    def __call__(self, images: Tensor) -> Tensor:
        return images.pow(self.exponent)

    def __str__(self) -> str:
        return f"gamma {self.exponent:g}"

    @property
    def point(self) -> tuple[float, ...]:
        """Where `at` gives this transform."""
        return (math.log(self.exponent, 2.5),)

    @classmethod
    def at(cls, size: float) -> Gamma:
        """Return the transform at a point of [-1, 1]: from 0.4 to 2.5, on a logarithmic scale."""
        return cls(round(2.5**size, 4))
