"""What attacks that ask for decisions alone have in common: the nearest point that fools, and what was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.active import Active
from scotoma.attacks.core.nearest import column, size
from scotoma.attacks.core.oracle import Oracle
from scotoma.utils.device import batch_size
from scotoma.utils.random import Randomness

Place = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The points of paths: images (n, c, h, w), what the paths are made of, and how far along (n,), to images in [0, 1]."""

S = TypeVar("S")


@dataclass
class Search(Active):
    """What a decision-based attack knows of its images: the nearest point that fools, and what was asked."""

    random: Randomness
    clean: Tensor
    x: Tensor
    """the nearest image that fools; the clean one before the first"""
    distance: Tensor
    """of x, (n,), infinite before the first"""
    reach: Tensor
    """how far along its path x lies, (n,)"""
    spent: Tensor
    """queries so far, int64 (n,)"""

    @classmethod
    def begin(
        cls, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness | None
    ) -> Search:
        """The images that the model has right."""
        images = images.contiguous()
        infinity = torch.full((len(images),), torch.inf, device=images.device)
        random = random or Randomness.default(images)
        search = cls(
            Oracle(model, labels),
            random,
            images,
            images.clone(),
            infinity,
            infinity.clone(),
            torch.zeros_like(labels),
        )
        search.drop(search.ask(images))
        return search

    def ask(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Which of `x` fool, bool: one of each image, or, an image as often as it stands there, those of the images `rows`."""
        if rows is None:
            self.spent += 1
        else:
            self.spent.index_add_(0, rows, torch.ones_like(rows))
        oracle = self.oracle if rows is None else self.oracle.select(rows)
        most = batch_size(x.device, self.clean[:1].numel() or 1)
        if len(x) <= most:
            return oracle.fooled(x)
        parts = torch.arange(len(x), device=x.device).split(most)
        return torch.cat([oracle.select(part).fooled(x[part]) for part in parts])

    def keep(self, rows: Tensor, x: Tensor, norm: str, reach: Tensor | None = None) -> None:
        """Remember those of `x` that are nearer to the images `rows` than before; all of them fool."""
        distance = size(x - self.clean[rows], norm)
        nearer = distance < self.distance[rows]
        rows = rows[nearer]
        self.x[rows], self.distance[rows] = x[nearer], distance[nearer]
        if reach is not None:
            self.reach[rows] = reach[nearer]

    def begin_at(self, start: Tensor, norm: str) -> None:
        """Query the images `start`, one for each image of the batch, and keep those that fool."""
        start = start[self.rows]
        rows = self.ask(start).nonzero().squeeze(1)
        self.keep(rows, start[rows], norm)

    def bisect(
        self, rows: Tensor, x: Tensor, place: Place, drawn: Tensor, reach: Tensor, halvings: int
    ) -> tuple[Tensor, Tensor]:
        """Follow the paths `drawn` of the images `rows` inwards, from `x` at `reach` to the x and reach returned; both fool."""
        clean, low = self.clean[rows], torch.zeros_like(reach)
        for _ in range(halvings if len(rows) else 0):
            middle = (low + reach) / 2
            probe = place(clean, drawn, middle)
            fooled = self.ask(probe, rows)
            low, reach = torch.where(fooled, low, middle), torch.where(fooled, middle, reach)
            x = torch.where(column(fooled), probe, x)
        return x, reach

    def repeated(self, random: list[Randomness]) -> Search:
        """The same images once for each of `random`, one time after the other, with its random numbers and nothing found."""
        n, times = len(self), len(random)
        infinity = torch.full((times * n,), torch.inf, device=self.clean.device)
        clean = self.clean.repeat(times, 1, 1, 1)
        rows = torch.arange(n, device=clean.device).repeat(times)
        streams = _Streams(random, [n] * times)
        return Search(
            self.oracle.select(rows),
            streams,
            clean,
            clean.clone(),
            infinity,
            infinity.clone(),
            self.spent[rows],
        )

    def become(self, kind: Callable[..., S], **more: Tensor) -> S:
        """The same with the further fields `more`, as the state of an attack's next part."""
        return kind(**{field.name: getattr(self, field.name) for field in fields(self)}, **more)


class _Streams(Randomness):
    """The random numbers of the same images several times over: those of `streams`, each for so many rows in turn."""

    def __init__(self, streams: list[Randomness], counts: list[int]):
        kept = [(stream, count) for stream, count in zip(streams, counts, strict=True) if count]
        self.streams, self.counts = [stream for stream, _ in kept], [count for _, count in kept]

    def fork(self, number: int) -> _Streams:
        return _Streams([stream.fork(number) for stream in self.streams], self.counts)

    def select(self, keep: Tensor) -> _Streams:
        parts, first = [], 0
        for count in self.counts:
            parts.append(keep[(keep >= first) & (keep < first + count)] - first)
            first += count
        streams = [stream.select(part) for stream, part in zip(self.streams, parts, strict=True)]
        return _Streams(streams, [len(part) for part in parts])

    def uniform(self, like: Tensor) -> Tensor:
        return torch.cat(
            [
                stream.uniform(part)
                for stream, part in zip(self.streams, like.split(self.counts), strict=True)
            ]
        )
