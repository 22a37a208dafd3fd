"""Random directions in image space, cheaply."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from scotoma.utils.random import Randomness

SPREAD = 0x3C6EF372 | 1
"""Odd multiplier of which no bit is lost; a product's upper bits depend on all bits."""


def directions(random: Randomness, like: Tensor, count: int) -> Tensor:
    """Return `count` random directions an image, uint8 (n, count, values); see `centred`.

    Every value is uniform and hardly correlated with another, which in many dimensions is as good
    as normal. The 24 bits of a random number, multiplied, make four values.
    """
    values = like[0].numel()
    numbers = random.uniform(like.new_empty(len(like), count, math.ceil(values / 4)))
    return numbers.mul_(1 << 24).int().mul_(SPREAD).view(torch.uint8)[..., :values]


def centred(noise: Tensor) -> Tensor:
    """Return the directions with mean 0, of no particular length."""
    return noise.float().sub_(127.5)


def smoothed(noise: Tensor, kind: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Return noise (n, ..., h, w) summed over the square around each pixel.

    `kind`, int64 (n,), picks the side of each image's square from the odd `sides`.
    """
    smooth = noise
    for number, side in enumerate(sides):
        if side == 1:
            continue
        rows = (kind == number).nonzero().squeeze(1)
        if len(rows):
            smooth = smooth.index_copy(0, rows, _summed(noise[rows], side))
    return smooth


def _summed(noise: Tensor, side: int) -> Tensor:
    reach = side // 2
    for dim, margins in ((-2, (0, 0, reach, reach)), (-1, (reach, reach))):
        wide, length = F.pad(noise, margins), noise.shape[dim]
        noise = wide.narrow(dim, 0, length)
        for offset in range(1, side):  # far cheaper than pooling on a CPU
            noise = noise + wide.narrow(dim, offset, length)
    return noise
