"""Contrast and background: the transform of the blind-spot attack."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ScaleShift:
    """x' = alpha x + beta on images in [-0.5, 0.5] (Zhang et al. 2019, section 3.3).

    On our [0, 1] this is alpha x + (1 - alpha) / 2 + beta: an image loses contrast towards mid grey, and even beta = 0 lifts
    a black background. What would leave the range is clipped; the paper's cells stay inside it.
    """

    alpha: float
    beta: float

    def __call__(self, images: Tensor) -> Tensor:
        return images.mul(self.alpha).add_((1 - self.alpha) / 2 + self.beta).clamp_(0, 1)

    def __str__(self) -> str:
        return f"scale-shift with alpha {self.alpha:g}, beta {self.beta:g}"
