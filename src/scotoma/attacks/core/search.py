"""What decision-based attacks share: the nearest fooling image, and the count of queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.active import Active
from scotoma.attacks.core.nearest import bisected, size
from scotoma.attacks.core.oracle import Oracle
from scotoma.utils.device import batch_size
from scotoma.utils.random import Randomness

Place = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Points of paths: from images (n, c, h, w), the paths, and the reach (n,), to images in [0, 1]."""

AHEAD = 16
"""Most queries of an image that are tried at once, since few images do not fill the processor."""

S = TypeVar("S")


def ahead(rate: float) -> int:
    """Return how many queries of an image to try at once, if a share `rate` of them is kept.

    Those after one that is kept are tried again from there: about a quarter of all passes. Where
    many are kept, images wait for each other too often.

    >>> ahead(0.2), ahead(0.05), ahead(0.0)
    (1, 10, 16)
    """
    count = int(0.5 / max(rate, 1e-9))
    return min(AHEAD, count) if count >= 4 else 1


@dataclass
class Search(Active):
    """State of a decision-based attack: the nearest fooling images and the queries spent."""

    random: Randomness
    clean: Tensor
    x: Tensor
    """nearest fooling image; the clean one before the first"""
    distance: Tensor
    """distance of x, (n,), infinite before the first"""
    reach: Tensor
    """reach of x along its path, (n,)"""
    queries: Tensor
    """queries so far, int64 (n,)"""

    @classmethod
    def begin(cls, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Search:
        """Return the state of the images that the model classifies correctly."""
        images = images.contiguous()
        infinity = torch.full((len(images),), torch.inf, device=images.device)
        oracle, queries = Oracle(model, labels), torch.zeros_like(labels)
        x, reach = images.clone(), infinity.clone()
        search = cls(oracle, random, images, x, infinity, reach, queries)
        search.drop(search.query(images))
        return search

    def query(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return which of `x` fool, bool: one for each image, or for each of the images `rows`."""
        if rows is None:
            self.queries += 1
        else:
            self.queries.index_add_(0, rows, torch.ones_like(rows))
        oracle = self.oracle if rows is None else self.oracle.select(rows)
        most = batch_size(x.device, self.clean[:1].numel() or 1)
        if len(x) <= most:
            return oracle.fooled(x)
        parts = torch.arange(len(x), device=x.device).split(most)
        return torch.cat([oracle.select(part).fooled(x[part]) for part in parts])

    def keep(self, rows: Tensor, x: Tensor, norm: str, reach: Tensor | None = None) -> None:
        """Keep those of `x`, which all fool, that are nearer to the images `rows` than before."""
        distance = size(x - self.clean[rows], norm)
        nearer = distance < self.distance[rows]
        rows = rows[nearer]
        self.x[rows], self.distance[rows] = x[nearer], distance[nearer]
        if reach is not None:
            self.reach[rows] = reach[nearer]

    def begin_at(self, start: Tensor, norm: str) -> None:
        """Query the images `start`, one for each image of the batch, and keep those that fool."""
        start = start[self.rows]
        rows = self.query(start).nonzero().squeeze(1)
        self.keep(rows, start[rows], norm)

    def bisect(
        self, rows: Tensor, x: Tensor, place: Place, paths: Tensor, reach: Tensor, halvings: int
    ) -> tuple[Tensor, Tensor]:
        """Move along the paths of images `rows` from `x` at `reach` inwards by bisection.

        Returns x and reach; all these points fool the model.
        """
        clean, ends = self.clean[rows], (torch.zeros_like(reach), reach)
        query = partial(self.query, rows=rows)
        return bisected(partial(place, clean, paths), query, x, ends, halvings)

    def repeated(self, forks: list[int]) -> Search:
        """Return a fresh search with a copy of all images for each of `forks` of their random
        numbers."""
        n, times = len(self), len(forks)
        infinity = torch.full((times * n,), torch.inf, device=self.clean.device)
        clean = self.clean.repeat(times, 1, 1, 1)
        rows = torch.arange(n, device=clean.device).repeat(times)
        random = self.random.forks(forks)
        oracle, x, reach = self.oracle.select(rows), clean.clone(), infinity.clone()
        return Search(oracle, random, clean, x, infinity, reach, self.queries[rows])

    def become(self, kind: Callable[..., S], **more: Tensor) -> S:
        """Return the state with the further fields `more`."""
        return kind(**{field.name: getattr(self, field.name) for field in fields(self)}, **more)
