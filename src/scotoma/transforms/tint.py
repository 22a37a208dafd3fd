"""A tint: one amount added to all values of a colour channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


@dataclass(frozen=True)
class Tint:
    """Each colour channel brighter or darker by an amount of its own, clipped to [0, 1].

    Args:
        red, green, blue: amounts; 0 changes nothing.

    >>> import torch
    >>> Tint(red=0.25)(torch.tensor([0.5, 0.5, 0.0]).view(1, 3, 1, 1)).flatten().tolist()
    [0.75, 0.5, 0.0]
    """

    red: float = 0.0
    green: float = 0.0
    blue: float = 0.0
    colour: ClassVar = True

    def __call__(self, images: Tensor) -> Tensor:
        amounts = images.new_tensor((self.red, self.green, self.blue))
        return (images + amounts[:, None, None]).clamp_(0, 1)

    def __str__(self) -> str:
        return f"tint {self.red:+g}, {self.green:+g}, {self.blue:+g}"

    @classmethod
    def sweep(cls) -> tuple[Tint, ...]:
        """Strengths that `scotoma map` tries, one channel each; only harmless ones count."""
        sizes, channels = (-0.1, -0.05, 0.05, 0.1), ("red", "green", "blue")
        return tuple(cls(**{channel: size}) for channel in channels for size in sizes)
