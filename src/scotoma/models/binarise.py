"""Binarised input, the simple defence against L-inf (Schott et al. 2019, section 2)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class Binarise(nn.Module):
    """Pixels from `threshold` on are 1, the others 0: an L-inf perturbation must cross the threshold to be seen at all.

    No gradient passes; attacks that follow one need BPDA.
    """

    gradient: ClassVar = "bpda"

    def __init__(self, threshold: float = 0.5):
        super().__init__()
        self.threshold = threshold

    def forward(self, images: Tensor) -> Tensor:
        return (images >= self.threshold).to(images.dtype)
