"""The boundary attack: a random walk along the decision boundary (Brendel et al. 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scotoma.attacks.core.base import from_zero
from scotoma.attacks.core.directions import centred, directions, smoothed
from scotoma.attacks.core.initialization import Walking
from scotoma.attacks.core.nearest import TINY
from scotoma.attacks.core.search import Search

DRAWN = 8
"""Steps whose directions are drawn at once."""

EXPLORED = 8
"""Steps after which each kind of direction is tried again; otherwise the longest-stepping is used.
"""

FIRST_STEP = 0.1
SUCCESS = 0.2
"""Success rate of proposals at which the step keeps its length. On a flat boundary one in eight is
optimal; one in five is hardly worse and adapts faster."""

PACE = 0.15
"""Logarithm by which one more success lengthens the step."""


@dataclass(frozen=True)
class Boundary(Walking):
    """Random steps on the sphere around the image, then inwards, kept while the model is fooled.

    Brendel et al. 2018, section 2, with all images in lock-step from `Starts`. Four differences:

    * The step inwards is not adapted separately. After a step of delta times the distance on the
      sphere, the optimum on a flat boundary is delta^2 / 2 inwards, as much as the sphere bends. So
      a proposal is one query, and delta follows the success rate after each.
    * Every direction is proposed with its opposite: on a flat boundary at most one succeeds.
    * Directions are noise averaged over squares of several sides, each side with its own delta.
      Progress grows with delta squared, so an image uses the side with the largest delta: mostly
      smooth noise at first (Brunner et al. 2019, "Guessing smart"), white noise at the end.
    * An image leaves when its steps are too short for any further gain.

    Images whose `start` does not fool are returned unchanged.

    Args:
        norm: "l2".
        queries: forward passes an image, including about 60 (at most 265) for the start.
        sides: sides of the squares, odd, in pixels; 1 is white noise.
        tolerance: an image leaves when every delta is below tolerance / sqrt(values of an image).
            On a flat boundary delta is proportional to the remaining angle; at 0.03 less than half
            a percent of the distance remains.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> Boundary("l2", queries=500)(torch.nn.Flatten(), images, labels).round(decimals=2)
    tensor([[[[0.5000, 0.5000]]]])
    """

    id: ClassVar[str] = "boundary"
    norms: ClassVar = ("l2",)
    queries: int = 5000
    sides: tuple[int, ...] = (1, 3)
    tolerance: float = from_zero(0.03)

    def _walk_from(self, search: Search, images: Tensor) -> Tensor:
        adversarial = images.clone()
        search.drop(search.distance.isinf())
        step = search.clean.new_full((len(search), len(self.sides)), FIRST_STEP)
        state = search.become(_State, step=step, directions=step)
        shortest = self.tolerance / math.sqrt(max(1, state.clean[:1].numel()))
        walked = 0
        while True:
            done = (state.queries + 2 > self.queries) | (state.step.amax(1) < shortest)
            state.finish(done, state.x, adversarial)
            if not len(state):
                return adversarial
            if walked % DRAWN == 0:
                state.directions = directions(state.random, state.clean, DRAWN)
            kind = state.step.argmax(1)
            if walked % EXPLORED == 0:
                kind.fill_(walked // EXPLORED % len(self.sides))
            noise = smoothed(
                centred(state.directions[:, walked % DRAWN]).view_as(state.clean), kind, self.sides
            )
            state.move(noise.flatten(1), kind[:, None])
            walked += 1


@dataclass
class _State(Search):
    step: Tensor
    """delta of each side, (n, sides)"""
    directions: Tensor
    """directions of the next steps, uint8 (n, DRAWN, values)"""

    def move(self, noise: Tensor, kind: Tensor) -> None:
        """Propose steps along and against `noise`, (n, values), with the side's index `kind`, (n,
        1); keep the nearest that fools."""
        n, step = len(self), self.step.gather(1, kind)
        proposals = self._propose(noise, step)
        distance = (proposals - self.clean).flatten(2).norm(dim=2)
        fooled = self.query(
            proposals.flatten(0, 1), torch.arange(n, device=step.device).repeat(2)
        ).view(2, n)
        success = fooled & (distance < self.distance)
        distance, nearest = distance.masked_fill(~success, torch.inf).min(0)
        rows = distance.isfinite().nonzero().squeeze(1)
        self.x.index_copy_(0, rows, proposals[nearest[rows], rows])
        self.distance = self.distance.minimum(distance)
        step = step * torch.exp(PACE * (success.float() - SUCCESS).sum(0))[:, None]
        self.step.scatter_(1, kind, step.clamp_(max=1))

    def _propose(self, noise: Tensor, step: Tensor) -> Tensor:
        """Return tangential steps along and against the noise, moved inwards, (2, n, c, h, w)."""
        change, radius = (self.x - self.clean).flatten(1), self.distance[:, None]
        along = (noise * change).sum(1, keepdim=True) / radius.square()
        tangent = noise.square().sum(1, keepdim=True) - (along * radius).square()
        inwards = (1 - step.square() / 2) / (1 + step.square()).sqrt()
        length = inwards * step * radius / tangent.clamp_min_(TINY).sqrt_()
        centre = self.clean.flatten(1).addcmul(change, inwards)
        side = (noise * length).addcmul_(change, length * along, value=-1)
        return torch.stack([centre + side, centre - side]).clamp_(0, 1).view(2, *self.clean.shape)
