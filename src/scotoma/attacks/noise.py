"""Attacks that only observe whether the model is fooled: noise and loss of contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scotoma.attacks.core.nearest import column, size
from scotoma.attacks.core.path_search import LEVELS, Paths, straight
from scotoma.utils.random import Randomness

GREYS = 11
"""Grey levels from black to white."""


@dataclass(frozen=True)
class GaussianNoise(Paths):
    """Adds the least Gaussian noise (uniform noise for L-inf) that fools.

    Args:
        norm: "linf", "l2" or "l1", the norm to minimise.
        draws, persistence: as in `Paths`.
        largest: standard deviation of the largest Gaussian noise, in pixel units; uniform noise
            goes to 1.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> GaussianNoise("l2")(torch.nn.Flatten(), images, labels).argmax().item()
    1
    """

    id: ClassVar[str] = "gaussian-noise"
    norms: ClassVar = ("linf", "l2", "l1")
    largest: float = 2.0

    def longest(self, images: Tensor) -> Tensor:
        return images.new_full((len(images),), 1.0 if self.norm == "linf" else self.largest)

    def draw(self, images: Tensor, random: Randomness, number: int) -> Tensor:
        return 2 * random.uniform(images) - 1 if self.norm == "linf" else random.normal(images)

    def place(self, images: Tensor, paths: Tensor, reach: Tensor) -> Tensor:
        return (images + column(reach) * paths).clamp_(0, 1)


@dataclass(frozen=True)
class SaltPepper(Paths):
    """Sets a growing share of the pixels to black or white at random, as few as fool.

    A draw gives each pixel a rank and a colour, so that more noise contains less noise. The share
    is bisected (Schott et al. 2019 use Foolbox's, which draws anew at each share).

    Args:
        norm: "l0", "l1" or "l2", the norm to minimise; L0 counts only pixels that change.
        draws, persistence: as in `Paths`.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> SaltPepper("l0")(torch.nn.Flatten(), images, labels).argmax().item()
    1
    """

    id: ClassVar[str] = "salt-pepper"
    norms: ClassVar = ("l0", "l1", "l2")

    def draw(self, images: Tensor, random: Randomness, number: int) -> Tensor:
        return random.uniform(images[:, :1])

    def place(self, images: Tensor, paths: Tensor, reach: Tensor) -> Tensor:
        half = column(reach) / 2
        not_black, white = paths.clone().ge_(half), paths.clone().ge_(1 - half)
        return images.mul(not_black).maximum(white)  # by numbers, as in `chosen`


@dataclass(frozen=True)
class Contrast(Paths):
    """Moves all pixels towards one grey level, as little as fools.

    Deterministic: 11 grey levels are tried at 8 sizes until one fools, which is then bisected.

    Args:
        norm: "linf", "l2" or "l1", the norm to minimise.
        draws, persistence: as in `Paths`; a draw is a grey level at one size.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> Contrast("l2")(torch.nn.Flatten(), images, labels)  # no grey fools this model
    tensor([[[[0.6000, 0.4000]]]])
    """

    id: ClassVar[str] = "contrast"
    norms: ClassVar = ("linf", "l2", "l1")
    kinds: ClassVar = GREYS
    draws: int = GREYS * len(LEVELS)

    def longest(self, images: Tensor) -> Tensor:
        return size(images, self.norm).maximum(size(1 - images, self.norm))

    def draw(self, images: Tensor, random: Randomness, number: int) -> Tensor:
        return torch.full_like(images[:, :1, :1, :1], number % GREYS / (GREYS - 1))

    def place(self, images: Tensor, paths: Tensor, reach: Tensor) -> Tensor:
        return straight(images, paths, reach, self.norm)
