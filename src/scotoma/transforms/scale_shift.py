"""Contrast and background: the transform of the blind-spot attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


@dataclass(frozen=True)
class ScaleShift:
    """x' = alpha x + beta on images in [-0.5, 0.5] (Zhang et al. 2019, section 3.3).

    On [0, 1] this is alpha x + (1 - alpha) / 2 + beta: contrast shrinks towards mid grey, so that
    even beta = 0 lifts a black background. Values are clipped to [0, 1]; the paper's settings stay
    inside.

    Args:
        alpha: factor of the contrast; 1 keeps it.
        beta: shift of the brightness, added after the scaling.

    >>> import torch
    >>> ScaleShift(alpha=0.5, beta=0.25)(torch.tensor([[[[0.0, 1.0]]]])).tolist()
    [[[[0.5, 1.0]]]]
    """

    alpha: float
    beta: float
    parameters: ClassVar = 2

    def __call__(self, images: Tensor) -> Tensor:
        return images.mul(self.alpha).add_((1 - self.alpha) / 2 + self.beta).clamp_(0, 1)

    @property
    def contrast(self) -> float:
        """Share of every difference between two pixels that is left."""
        return self.alpha

    def __str__(self) -> str:
        return f"scale-shift with alpha {self.alpha:g}, beta {self.beta:g}"

    @property
    def point(self) -> tuple[float, ...]:
        """Where `at` gives this transform."""
        return 2 - 2 * self.alpha, 2 * self.beta / max(1e-9, 1 - self.alpha)

    @classmethod
    def at(cls, size: float, side: float) -> ScaleShift:
        """Return the transform at a point of [-1, 1]^2: alpha 0.5 at either end, no pixel clipped.

        The second number is beta in units of (1 - alpha) / 2: at 1 white stays white.
        """
        alpha = round(1 - abs(size) / 2, 4)
        return cls(alpha, round(side * (1 - alpha) / 2, 6) + 0.0)
