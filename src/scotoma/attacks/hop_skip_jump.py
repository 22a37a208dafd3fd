"""HopSkipJump: steps along estimated normals of the decision boundary (Chen et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from scotoma.attacks.core.directions import centred, directions, smoothed
from scotoma.attacks.core.initialization import Walking
from scotoma.attacks.core.nearest import TINY, column, size
from scotoma.attacks.core.path_search import retracted
from scotoma.attacks.core.search import Search
from scotoma.utils.device import batch_size
from scotoma.utils.random import Randomness

BLOCK = 16
"""Probes of an image at a time."""

JUMPS = 10
"""Lengths of a jump to try, each half of the last."""

GAIN = 0.998
"""Share of its distance to which a jump must bring an image."""

SPREAD = (0.1, 0.9)
"""Range of the share of fooling probes that is informative; outside it the next probes lie nearer
or farther out."""


@dataclass(frozen=True)
class HopSkipJump(Walking):
    """Estimates the normal of the decision boundary, jumps along it, and returns to the boundary.

    Chen et al. 2020, "HopSkipJumpAttack: a query-efficient decision-based attack", Algorithm 2,
    with all images in lock-step from `Starts`. Four differences:

    * Probes lie at the image's L2 distance over sqrt(d), d its number of values, not over d: the
      boundary need not be met as exactly. Where too few or too many probes fool, their distance is
      adapted.
    * Probes are of several kinds, as in `Boundary`; an image uses the kind that last gained most.
    * A jump is as long as possible such that its end, retracted towards the image (line for L2, box
      for L-inf), fools from nearer than before. So a jump that is too long is not wasted.
    * The next iteration starts from the nearest point so far.

    Images whose `start` does not fool are returned unchanged.

    Args:
        norm: "linf" or "l2", the norm to minimise.
        queries: forward passes an image, including about 60 (at most 265) for the start.
        probes: probes of the first iteration; iteration t takes sqrt(t) times as many.
        sides: sides of the squares over which noise is averaged, odd, in pixels; 1 is white noise.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> HopSkipJump("linf", queries=600)(torch.nn.Flatten(), images, labels).round(decimals=2)
    tensor([[[[0.5000, 0.5000]]]])
    """

    id: ClassVar[str] = "hop-skip-jump"
    norms: ClassVar = ("linf", "l2")
    queries: int = 5000
    probes: int = 100
    sides: tuple[int, ...] = (1, 3)

    def _walk_from(self, search: Search, images: Tensor) -> Tensor:
        adversarial = images.clone()
        search.drop(search.distance.isinf())
        progress = search.clean.new_full((len(search), len(self.sides)), torch.inf)
        state = search.become(Walk, scale=torch.ones_like(search.distance), progress=progress)
        # a distance is met to a quarter of what a probe moves the boundary's crossing
        halvings = math.ceil(math.log2(max(1, images[:1].numel()))) + 2
        iteration = 1
        while True:
            probes = int(self.probes * math.sqrt(iteration))
            state.finish(
                state.queries + probes + JUMPS + halvings > self.queries, state.x, adversarial
            )
            if not len(state):
                return adversarial
            normal = self._normal(state, probes, state.random.fork(iteration))
            before = state.distance.clone()
            self._step(state, normal, halvings)
            gained = (before / state.distance)[:, None]
            state.progress.scatter_(1, state.progress.argmax(1, keepdim=True), gained)
            iteration += 1

    def _normal(self, state: Walk, probes: int, random: Randomness) -> Tensor:
        """Return the normal towards fooling images, (n, c, h, w), from probes around x (section
        III-C, eq. 16)."""
        values = state.clean[0].numel()
        radius = state.scale * size(state.x - state.clean, "l2") / math.sqrt(values)
        kind = state.progress.argmax(1)
        normal, share = torch.empty_like(state.x), torch.empty_like(radius)
        group = max(1, batch_size(state.x.device, values) // BLOCK)
        for rows in torch.arange(len(state), device=state.x.device).split(group):
            x, stream = state.x[rows, None], random.select(rows)
            moves, fooling = torch.zeros_like(x[:, 0]), torch.zeros_like(x[:, 0])
            fools = torch.zeros_like(radius[rows])
            for first in range(0, probes, BLOCK):
                count = min(BLOCK, probes - first)
                draws = directions(stream, x[:, 0], BLOCK)[:, :count]
                noise = smoothed(centred(draws).unflatten(2, x.shape[2:]), kind[rows], self.sides)
                length = radius[rows, None] / noise.flatten(2).norm(dim=2).clamp_min_(TINY)
                probe = (x + noise * length[:, :, None, None, None]).clamp_(0, 1)
                fooled = state.query(probe.flatten(0, 1), rows.repeat_interleave(count))
                fooled = fooled.view(-1, count).to(x.dtype)
                move = probe.sub_(x)
                moves += move.sum(1)
                fooling += (move * fooled[:, :, None, None, None]).sum(1)
                fools += fooled.sum(1)
            mean = fools / probes
            # if all agree nothing is left without the mean: then towards those that fool or away
            agree = column((mean == 0) | (mean == 1))
            normal[rows] = torch.where(
                agree, moves * column(2 * mean - 1), fooling - column(mean) * moves
            )
            share[rows] = mean
        state.scale *= torch.where(share < SPREAD[0], 0.5, torch.where(share > SPREAD[1], 2.0, 1.0))
        return normal

    def _step(self, state: Walk, normal: Tensor, halvings: int) -> None:
        """Jump along the normal and return to the boundary, where that is nearer."""
        norm, before = self.norm, state.distance.clone()
        length = column(size(normal, "l2").clamp_min_(TINY))
        normal = normal.sign() if norm == "linf" else normal / length
        ends, length = state.x.clone(), state.distance.clone()
        rows = torch.arange(len(state), device=normal.device)
        for _ in range(JUMPS):
            if not len(rows):
                break
            end = (state.x[rows] + column(length[rows]) * normal[rows]).clamp_(0, 1)
            fooled = state.query(retracted(state.clean[rows], end, GAIN * before[rows], norm), rows)
            ends[rows[fooled]] = end[fooled]
            length, rows = length / 2, rows[~fooled]
        landed = torch.ones_like(before, dtype=torch.bool).index_fill_(0, rows, False)
        landed = landed.nonzero().squeeze(1)
        reach, place = GAIN * before[landed], partial(retracted, norm=norm)
        x = place(state.clean[landed], ends[landed], reach)
        x, _ = state.bisect(landed, x, place, ends[landed], reach, halvings)
        state.keep(landed, x, norm)


@dataclass
class Walk(Search):
    """State of a walk along the boundary by estimated normals."""

    scale: Tensor
    """distance of the probes from x, in units of x's distance from the image over sqrt(d), (n,)"""
    progress: Tensor
    """factor by which the last iteration with each kind of probe reduced the distance, (n, kinds)
    """
