"""The nearest fooling point on paths away from an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.base import MinimumNormAttack
from scotoma.attacks.core.nearest import TINY, column, size
from scotoma.attacks.core.search import Search
from scotoma.utils.random import Randomness

LEVELS = (1, 1 / 2, 3 / 4, 1 / 4, 7 / 8, 5 / 8, 3 / 8, 1 / 8)
"""Shares of the longest reach at which an image that no path has fooled is tried, in turn."""

NEARER = 0.99
"""Share of the shortest reach so far at which a path must fool to be followed."""

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
        self.follow(search)
        search.finish(torch.ones_like(search.spent, dtype=torch.bool), search.x, adversarial)
        return adversarial

    def follow(self, search: Search) -> None:
        """Try all paths; the search keeps the best."""
        random = search.random.fork(0) if len(search) else search.random
        for number in range(self.draws + self.persistence):
            unbroken = search.distance.isinf()
            rows = (unbroken | (number < self.draws)).nonzero().squeeze(1)
            if not len(rows):
                return
            clean = search.clean[rows]
            drawn = self.draw(clean, random.select(rows).fork(number), number)
            untried = self.longest(clean) * LEVELS[number // self.kinds % len(LEVELS)]
            reach = torch.where(unbroken[rows], untried, NEARER * search.reach[rows])
            x = self.place(clean, drawn, reach)
            hits = search.ask(x, rows).nonzero().squeeze(1)
            rows = rows[hits]
            x, reach = search.bisect(rows, x[hits], self.place, drawn[hits], reach[hits], HALVINGS)
            search.keep(rows, x, self.norm, reach)

    def longest(self, images: Tensor) -> Tensor:
        """Return the reach at which all paths end, (n,)."""
        return images.new_ones(len(images))

    @abstractmethod
    def draw(self, images: Tensor, random: Randomness, number: int) -> Tensor:
        """Return what defines the path of a draw, a row an image."""

    @abstractmethod
    def place(self, images: Tensor, drawn: Tensor, reach: Tensor) -> Tensor:
        """Return the points at `reach`, (n,), of the paths `drawn`, (n, c, h, w) in [0, 1]."""


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
