"""Random search in L2: mass moves from one window to another (Andriushchenko et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from scotoma.attacks.core.nearest import TINY
from scotoma.attacks.ddn import stretch
from scotoma.utils.random import Randomness

TILES = 5
"""Tiles along the shorter side of the image at the start (section 3.3)."""

NARROWEST = 3
"""Smallest side of a window, in pixels; a side is odd (section 3.3)."""


@dataclass
class Masses:
    """Perturbations of L2 norm eps made of pairs of pyramids, and random changes of them.

    Andriushchenko et al. 2020, Algorithm 3 and section 3.3. What the edge of the box cuts off goes
    to the other pixels, so that no mass is lost.

    Args:
        clean: the images, (n, c, h, w).
        eps: radius of the ball.
    """

    clean: Tensor
    eps: float

    @property
    def chances(self) -> int:
        """Random numbers that an image's proposal takes."""
        return 5 + self.clean.shape[1]

    def select(self, keep: Tensor) -> Masses:
        """Return the perturbations of the images in `keep`."""
        return Masses(self.clean[keep], self.eps)

    def start(self, random: Randomness) -> Tensor:
        """Return images with a pair of pyramids on every tile, of random sign in each channel."""
        n, channels, *sides = self.clean.shape
        side = max(1, min(sides) // TILES)
        down, across = (length // side for length in sides)
        chance = random.uniform(self.clean.new_empty(n, 1 + channels, down, across))
        pair = pyramids(side, self.clean)[(chance[:, :1] < 0.5).long()]
        tiles = _signs(chance[:, 1:], self.clean)[..., None, None] * pair
        delta = torch.zeros_like(self.clean)
        top, left = ((length % side) // 2 for length in sides)
        inner = delta[..., top : top + down * side, left : left + across * side]
        inner.copy_(tiles.transpose(3, 4).reshape(inner.shape))
        return self._filled(delta)

    def propose(self, x: Tensor, chance: Tensor, side: int) -> Tensor:
        """Return copies of `x` in which one window takes another's mass and what eps leaves.

        `chance`, (n, 5 + channels) in [0, 1), sets the places of both windows, and how the pair of
        pyramids lies and its sign in each channel.
        """
        n, channels, height, width = x.shape
        side = min(max(side + 1 - side % 2, NARROWEST), height, width)
        shape = (n, 1, side * side)
        gaining, giving = (
            windows(chance[:, first : first + 2], side, height, width)
            .view(shape)
            .expand(-1, channels, -1)
            for first in (0, 2)
        )
        delta = (x - self.clean).flatten(2)
        unused = (self.eps**2 - delta.square().sum((1, 2))).clamp_min_(0) / channels
        old = delta.gather(2, gaining)
        delta.scatter_(2, gaining, 0)
        mass = old.square().sum(2) + delta.gather(2, giving).square_().sum(2)
        delta.scatter_(2, giving, 0)
        pair = pyramids(side, x).flatten(1)[(chance[:, 4] < 0.5).long()]
        new = _signs(chance[:, 5:], x)[:, :, None] * pair[:, None] + _unit(old)
        delta.scatter_(2, gaining, _unit(new) * (mass + unused[:, None]).sqrt_()[:, :, None])
        return self._filled(delta.view_as(x))

    def _filled(self, delta: Tensor) -> Tensor:
        """Return the images at distance eps, which the edge of the box does not shorten."""
        eps = delta.new_full((len(delta),), self.eps)
        return stretch(delta, self.clean, eps).add_(self.clean).clamp_(0, 1)


def windows(chance: Tensor, side: int, height: int, width: int) -> Tensor:
    """Return the indices of the pixels in square windows, int64 (n, side, side).

    `chance`, (n, 2) in [0, 1), sets where a window lies in the image.
    """
    top = (chance[:, 0] * (height - side + 1)).long()
    left = (chance[:, 1] * (width - side + 1)).long()
    offsets = torch.arange(side, device=top.device)
    return (top[:, None, None] + offsets[:, None]) * width + left[:, None, None] + offsets


def pyramids(side: int, like: Tensor) -> Tensor:
    """Return two pyramids of opposite sign, one above the other and side by side, of norm 1.

    The result is (2, side, side), as `like` (Andriushchenko et al. 2020, equation 2).
    """
    return _pyramids(side).to(like)


@cache
def _pyramids(side: int) -> Tensor:
    upper = side // 2
    pair = torch.cat([_pyramid(upper, side), -_pyramid(side - upper, side)])
    pair /= pair.norm()
    return torch.stack([pair, pair.T])


def _pyramid(height: int, width: int) -> Tensor:
    steps = 1 / torch.arange(1.0, max(height, width) // 2 + 2).square()
    heights = steps.flip(0).cumsum(0).flip(0)
    rows, columns = ((torch.arange(length) - length // 2).abs() for length in (height, width))
    return heights[rows[:, None].maximum(columns)]


def _signs(chance: Tensor, like: Tensor) -> Tensor:
    return (chance < 0.5).to(like).mul_(2).sub_(1)


def _unit(window: Tensor) -> Tensor:
    return window / window.norm(dim=2, keepdim=True).clamp_min(TINY)
