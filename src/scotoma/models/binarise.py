"""Binarised input, a simple defence against L-inf (Schott et al. 2019, section 2)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class Binarise(nn.Module):
    """Sets pixels from `threshold` on to 1 and all others to 0.

    An L-inf perturbation has an effect only if it crosses the threshold. No gradient passes, so
    attacks that follow one need BPDA.
    """

    gradient: ClassVar = "bpda"

    def __init__(self, threshold: float = 0.5):
        super().__init__()
        self.threshold = threshold

    def forward(self, images: Tensor) -> Tensor:
        return (images >= self.threshold).to(images.dtype)
