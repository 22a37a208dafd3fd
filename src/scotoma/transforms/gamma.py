"""Tone: dark or light middle greys, with black and white where they are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Gamma:
    """Every pixel raised to a power: x' = x^exponent.

    Args:
        exponent: above 0; below 1 middle greys become lighter, above 1 darker, 1 changes nothing.
    """

    exponent: float

    def __call__(self, images: Tensor) -> Tensor:
        return images.pow(self.exponent)

    def __str__(self) -> str:
        return f"gamma {self.exponent:g}"

    @classmethod
    def sweep(cls) -> tuple[Gamma, ...]:
        """Strengths that `scotoma map` tries; only harmless ones count."""
        return tuple(map(cls, (0.4, 0.6, 0.8, 1.25, 1.75, 2.5)))
