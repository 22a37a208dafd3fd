"""Starting points of decision-based attacks, on paths to other images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.attacks.core.base import MinimumNormAttack
from scotoma.attacks.core.nearest import chosen, column, size
from scotoma.attacks.core.path_search import Paths, retracted
from scotoma.attacks.core.search import Search
from scotoma.utils.random import Randomness

BLOBS = 4
"""Random grey levels of smooth noise in each direction, which are interpolated."""


@dataclass(frozen=True)
class Starts(Paths):
    """Paths to uniform, salt-and-pepper and smooth noise and the image itself shifted, in turn.

    Networks assign mostly one class to noise of one kind, so images of that class need another
    kind. It takes about 60 queries, and at most 265.

    Args:
        norm, draws, persistence: as in `Paths`.
    """

    norms: ClassVar = ("linf", "l2")
    kinds: ClassVar = 4
    draws: int = 24
    persistence: int = 76

    def longest(self, images: Tensor) -> Tensor:
        return size(torch.ones_like(images), self.norm)

    def draw(self, images: Tensor, random: Randomness, number: int) -> Tensor:
        return other_image(images, random, number)

    def place(self, images: Tensor, paths: Tensor, reach: Tensor) -> Tensor:
        return retracted(images, paths, reach, self.norm)


@dataclass(frozen=True)
class FewPixels(Paths):
    """Replaces more and more pixels by salt-and-pepper noise, then by the images of `Starts`.

    Args:
        norm, draws, persistence: as in `Paths`; after `draws` come the images of `Starts`.
    """

    norms: ClassVar = ("l0",)
    kinds: ClassVar = 4
    draws: int = 20
    persistence: int = 80

    def draw(self, images: Tensor, random: Randomness, number: int) -> Tensor:
        order = random.uniform(images[:, :1])
        noise = random.uniform(images[:, :1]).round().expand_as(images)
        return torch.cat(
            [order, noise if number < self.draws else other_image(images, random, number)], 1
        )

    def place(self, images: Tensor, paths: Tensor, reach: Tensor) -> Tensor:
        return chosen(paths[:, :1].clone().lt_(column(reach)), paths[:, 1:], images)


@dataclass(frozen=True)
class Walking(MinimumNormAttack, ABC):
    """A decision-based attack that walks from fooling images, by default those of `Starts`."""

    gradients: ClassVar = False

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        search = Search.begin(model, images, labels, random)
        Starts(self.norm).follow(search)
        return self._walk_from(search, images)

    def run_from(
        self, start: Tensor, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> Tensor:
        search = Search.begin(model, images, labels, random)
        search.begin_at(start, self.norm)
        return self._walk_from(search, images)

    @abstractmethod
    def _walk_from(self, search: Search, images: Tensor) -> Tensor:
        """Return the ends of walks, or the images where nothing fools: the distance is infinite."""


def other_image(images: Tensor, random: Randomness, number: int) -> Tensor:
    """Return an image of kind `number` modulo 4, (n, c, h, w)."""
    if number % 4 == 0:
        return random.uniform(images)
    if number % 4 == 1:
        density = random.uniform(images[:, :1, :1, :1])
        return (random.uniform(images[:, :1]) < density).to(images).expand_as(images)
    if number % 4 == 2:
        coarse = random.normal(images.new_empty(*images.shape[:2], BLOBS, BLOBS))
        return (
            F.interpolate(coarse, images.shape[-2:], mode="bilinear").mul_(2).add_(0.5).clamp_(0, 1)
        )
    return _moved(images, random.uniform(images.new_empty(len(images), 4)))


def _moved(images: Tensor, chance: Tensor) -> Tensor:
    """Return each image rolled, and mirrored or not, by `chance`, (n, 4) in [0, 1)."""

    def indices(length: int, mirror: Tensor, roll: Tensor) -> Tensor:
        index = torch.arange(length, device=images.device) + (roll * length).long()[:, None]
        return torch.where(mirror[:, None] < 0.5, index, -index) % length

    _, _, height, width = images.shape
    rows = indices(height, chance[:, 0], chance[:, 1])
    columns = indices(width, chance[:, 2], chance[:, 3])
    images = images.gather(2, rows[:, None, :, None].expand_as(images))
    return images.gather(3, columns[:, None, None, :].expand_as(images))
