"""Rounding of the coefficients of a cosine transform, as JPEG does."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.defences.base import Defence

BLOCK = 8
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Steps of the coefficients at quality 50, of the JPEG standard (annex K.1)."""


class Jpeg(Defence):
    """Compresses images as JPEG does before the network: rounded coefficients of 8x8 blocks.

    Every channel is coded as luminance, without subsampling of colours. Sides that are no multiple
    of 8 are padded with their last row and column.

    Source: Dziugaite, Ghahramani and Roy 2016, "A study of the effect of JPG compression on
    adversarial images"; Guo, Rana, Cisse and van der Maaten 2018, "Countering adversarial images
    using input transformations".
    Broken by: Athalye, Carlini and Wagner 2018, "Obfuscated gradients give a false sense of
    security" (BPDA); Shin and Song 2017, "JPEG-resistant adversarial images".

    >>> grey = torch.full((1, 1, 8, 8), 0.5)
    >>> bool((Jpeg(nn.Identity())(grey) - grey).abs().max() < 0.01)
    True
    """

    table: Tensor
    basis: Tensor

    def __init__(self, network: nn.Module, quality: int = 75):
        super().__init__(network)
        scale = 5000 / quality if quality < 50 else 200 - 2 * quality
        steps = torch.floor((torch.tensor(LUMINANCE) * scale + 50) / 100).clamp(1, 255)
        rows, places = torch.arange(BLOCK)[:, None], torch.arange(BLOCK)
        basis = torch.cos(math.pi * rows * (2 * places + 1) / (2 * BLOCK)) / 2
        basis[0] /= math.sqrt(2)
        self.register_buffer("table", steps, persistent=False)
        self.register_buffer("basis", basis, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        n, c, h, w = images.shape
        padded = F.pad(images * 255 - 128, (0, -w % BLOCK, 0, -h % BLOCK), mode="replicate")
        high, wide = padded.shape[2] // BLOCK, padded.shape[3] // BLOCK
        blocks = padded.reshape(n, c, high, BLOCK, wide, BLOCK).transpose(3, 4)
        coefficients = self.basis @ blocks @ self.basis.T
        coefficients = torch.round(coefficients / self.table) * self.table
        blocks = self.basis.T @ coefficients @ self.basis
        decoded = blocks.transpose(3, 4).reshape(padded.shape)[:, :, :h, :w]
        return self.network(((decoded + 128) / 255).clamp(0, 1))
