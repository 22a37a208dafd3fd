"""The nearest fooling point on paths away from an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.base import MinimumNormAttack
from scotoma.attacks.core.nearest import TINY, column, size
from scotoma.attacks.core.search import Search, ahead
from scotoma.utils.device import batch_size
from scotoma.utils.random import Randomness

LEVELS = (1, 1 / 2, 3 / 4, 1 / 4, 7 / 8, 5 / 8, 3 / 8, 1 / 8)
"""Shares of the longest reach at which an image that no path has fooled is tried, in turn."""

NEARER = 0.99
"""Share of the shortest reach so far at which a path must fool to be followed."""

RATE, LATELY = 0.2, 16
"""Share of the draws that come nearer, at first, and the draws over which it is averaged."""

HALVINGS = 10
"""Bisections of a path between the image and a fooling point: to a thousandth of its length."""


@dataclass(frozen=True)
class Paths(MinimumNormAttack, ABC):
    """Tries paths one after the other, and bisects those that fool from nearer than all before.

    A path leads outwards from the image, at reach 0. Subclasses define the path of a draw. Each
    draw is one query: does it improve, or, as long as no path has fooled, does it fool at the next
    of `LEVELS`? Where it does, it is bisected.

    Args:
        norm: the norm to minimise.
        draws: paths to try.
        persistence: further paths for images that none of them fools, until one does.
    """

    gradients: ClassVar = False
    kinds: ClassVar = 1
    """Kinds of path that take turns; each is tried at one level before the next level."""
    draws: int = 100
    persistence: int = 0

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        adversarial = images.clone()
        search = Search.begin(model, images, labels, random)
        self.follow(search, at_once=True)
        search.finish(torch.ones_like(search.queries, dtype=torch.bool), search.x, adversarial)
        return adversarial

    def follow(self, search: Search, at_once: bool = False) -> None:
        """Try all paths; the search keeps the best.

        Args:
            at_once: whether to try many draws at once where the images leave room in a batch and
                few draws come nearer. The result is that of one after the other, for up to a third
                more queries: the draws after one that comes nearer are queried again.
        """
        random = search.random.fork(0) if len(search) else search.random
        fill, number, rate = batch_size(search.x.device, search.x[:1].numel() or 1), 0, RATE
        while number < (most := self.draws + self.persistence):
            unbroken = search.distance.isinf()
            rows = (unbroken | (number < self.draws)).nonzero().squeeze(1)
            if not len(rows):
                return
            end = self.draws if number < self.draws else most
            most_now = ahead(rate) if at_once else 1
            count = max(1, min(most_now, end - number, fill // len(rows)))
            numbers = range(number, number + count)
            nearer = self._follow(search, rows, random.select(rows), numbers)
            rate += (nearer / (count * len(rows)) - rate) * count / LATELY
            number += count

    def _follow(self, search: Search, rows: Tensor, random: Randomness, numbers: range) -> int:
        """Try draws of the images `rows`, each from the result of the one before.

        Return how many of them fool.
        """
        clean, count = search.clean[rows], len(numbers)
        paths = torch.stack([self.draw(clean, random.fork(each), each) for each in numbers], 1)
        levels = [LEVELS[number // self.kinds % len(LEVELS)] for number in numbers]
        untried = self.longest(clean)[:, None] * clean.new_tensor(levels)
        turns = torch.arange(count, device=rows.device)
        following, nearer = torch.zeros_like(rows), 0  # the first draw still to try; how many fool
        while len(pairs := (turns >= following[:, None]).nonzero()):
            at, turn = pairs.unbind(1)
            image = rows[at]
            reach = NEARER * search.reach[image]
            reach = torch.where(search.distance[image].isinf(), untried[at, turn], reach)
            x = self.place(clean[at], paths[at, turn], reach)
            fools = search.query(x, image)
            first = torch.full_like(rows, count)
            first.scatter_reduce_(0, at[fools], turn[fools], "amin")
            hits = (fools & (turn == first[at])).nonzero().squeeze(1)
            image, hit_paths = image[hits], paths[at[hits], turn[hits]]
            x, reach = search.bisect(image, x[hits], self.place, hit_paths, reach[hits], HALVINGS)
            search.keep(image, x, self.norm, reach)
            nearer += len(hits)
            # after all draws, images that none has fooled continue until one does
            following = first + 1 if numbers.start < self.draws else torch.full_like(first, count)
        return nearer

    def longest(self, images: Tensor) -> Tensor:
        """Return the reach at which all paths end, (n,)."""
        return images.new_ones(len(images))

    @abstractmethod
    def draw(self, images: Tensor, random: Randomness, number: int) -> Tensor:
        """Return what defines the path of a draw, a row an image."""

    @abstractmethod
    def place(self, images: Tensor, paths: Tensor, reach: Tensor) -> Tensor:
        """Return the points at `reach`, (n,), of the paths of a draw, (n, c, h, w) in [0, 1]."""


def straight(images: Tensor, ends: Tensor, reach: Tensor, norm: str) -> Tensor:
    """Return the point at distance `reach` on the line from each image to its end, or the end."""
    change = ends - images
    return (
        images + change * column((reach / size(change, norm).clamp_min_(TINY)).clamp_(max=1))
    ).clamp_(0, 1)


def retracted(images: Tensor, ends: Tensor, reach: Tensor, norm: str) -> Tensor:
    """Return `straight` for L2; for L-inf the nearest point to the end within `reach`."""
    if norm != "linf":
        return straight(images, ends, reach, norm)
    return ends.maximum(images - column(reach)).minimum(images + column(reach))
