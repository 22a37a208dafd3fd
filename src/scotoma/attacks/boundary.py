"""The boundary attack: a random walk along the decision boundary towards the image (Brendel et al. 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.base import MinimumNormAttack
from scotoma.attacks.core.directions import centred, directions, smoothed
from scotoma.attacks.core.initialization import Starts
from scotoma.attacks.core.nearest import TINY
from scotoma.attacks.core.search import Search
from scotoma.utils.random import Randomness

DRAWN = 8
"""Steps whose directions are drawn at once."""

EXPLORED = 8
"""Every so many steps the kinds of direction take turns; else each image uses that whose steps are longest."""

FIRST_STEP = 0.1
SUCCESS = 0.2
"""The step grows where more proposals than this share succeed and shrinks where fewer do. On a flat boundary one in eight is
best, but one in five hardly worse and quicker to adapt."""

PACE = 0.15
"""Logarithm by which a success more lengthens the step."""


@dataclass(frozen=True)
class Boundary(MinimumNormAttack):
    """Steps at random on the sphere around the image, then a little inwards, and stays where the model is still fooled.

    Brendel et al. 2018, "Decision-based adversarial attacks: reliable attacks against black-box machine learning models",
    section 2, with all images in lock-step from `Starts`. Four things differ:

    * the step inwards is not adapted apart from the one on the sphere: after one of delta times the distance on the sphere, the
      best on a flat boundary is delta^2 / 2 inwards, as much as the sphere itself bends. So a proposal is one query, and
      delta follows the share of proposals that succeed after every one;
    * every direction is proposed together with its opposite: on a flat boundary at most one of the two can succeed, so that the
      second costs nothing, and half as many directions are drawn;
    * directions are of several kinds, noise averaged over squares of different sides, each with a delta of its own. Progress
      grows with its square, so that an image uses the kind whose delta is largest: mostly smooth noise far out, since networks
      mind little else (Brunner et al. 2019, "Guessing smart"), and white noise at last;
    * an image leaves when its steps are so short that nothing is left to gain.

    Args:
        norm: "l2".
        queries: forward passes an image in all; the start takes about 60 of them, and never more than 265.
        sides: of the squares over which noise is averaged, odd, in pixels; 1 is white noise.
        tolerance: an image leaves when every delta is below tolerance / sqrt(values of an image). On a flat boundary delta is in
            proportion to the angle that is left; at 0.03 hardly half a percent of the distance is.
    """

    id: ClassVar[str] = "boundary"
    norms: ClassVar = ("l2",)
    gradients: ClassVar = False
    queries: int = 5000
    sides: tuple[int, ...] = (1, 3)
    tolerance: float = 0.03

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        """The nearest fooling images found, (n, c, h, w); unchanged where the model is wrong already or could not be fooled."""
        search = Search.begin(model, images, labels, random)
        Starts(self.norm).follow(search)
        return self._walk_from(search, images)

    def run_from(
        self, start: Tensor, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> Tensor:
        search = Search.begin(model, images, labels, random)
        search.begin_at(start, self.norm)
        return self._walk_from(search, images)

    def _walk_from(self, search: Search, images: Tensor) -> Tensor:
        found = images.clone()
        search.drop(search.distance.isinf())
        step = search.clean.new_full((len(search), len(self.sides)), FIRST_STEP)
        self._walk(search.become(_State, step=step, drawn=step), found)
        return found

    def _walk(self, state: _State, found: Tensor) -> None:
        """Walk until all images have left; `found` keeps where they arrive."""
        shortest = self.tolerance / math.sqrt(max(1, state.clean[:1].numel()))
        walked = 0
        while True:
            done = (state.spent + 2 > self.queries) | (state.step.amax(1) < shortest)
            state.finish(done, state.x, found)
            if not len(state):
                return
            if walked % DRAWN == 0:
                state.drawn = directions(state.random, state.clean, DRAWN)
            kind = state.step.argmax(1)
            if walked % EXPLORED == 0:
                kind.fill_(walked // EXPLORED % len(self.sides))
            noise = smoothed(
                centred(state.drawn[:, walked % DRAWN]).view_as(state.clean), kind, self.sides
            )
            state.move(noise.flatten(1), kind[:, None])
            walked += 1


@dataclass
class _State(Search):
    step: Tensor
    """delta of each kind of direction, (n, kinds)"""
    drawn: Tensor
    """directions of the next steps, uint8 (n, DRAWN, values)"""

    def move(self, noise: Tensor, kind: Tensor) -> None:
        """Propose steps along `noise`, (n, values), of the kinds (n, 1), and against it; take the nearest that fools."""
        n, step = len(self), self.step.gather(1, kind)
        proposals = self._propose(noise, step)
        distance = (proposals - self.clean).flatten(2).norm(dim=2)
        fooled = self.ask(
            proposals.flatten(0, 1), torch.arange(n, device=step.device).repeat(2)
        ).view(2, n)
        success = fooled & (distance < self.distance)
        distance, which = distance.masked_fill(~success, torch.inf).min(0)
        rows = distance.isfinite().nonzero().squeeze(1)
        self.x.index_copy_(0, rows, proposals[which[rows], rows])
        self.distance = self.distance.minimum(distance)
        step = step * torch.exp(PACE * (success.float() - SUCCESS).sum(0))[:, None]
        self.step.scatter_(1, kind, step.clamp_(max=1))

    def _propose(self, noise: Tensor, step: Tensor) -> Tensor:
        """Steps on the sphere along the part of the noise that is tangent to it and against it, and inwards: (2, n, c, h, w)."""
        change, radius = (self.x - self.clean).flatten(1), self.distance[:, None]
        along = (noise * change).sum(1, keepdim=True) / radius.square()
        tangent = noise.square().sum(1, keepdim=True) - (along * radius).square()
        inwards = (1 - step.square() / 2) / (1 + step.square()).sqrt()
        length = inwards * step * radius / tangent.clamp_min_(TINY).sqrt_()
        centre = self.clean.flatten(1).addcmul(change, inwards)
        side = (noise * length).addcmul_(change, length * along, value=-1)
        return torch.stack([centre + side, centre - side]).clamp_(0, 1).view(2, *self.clean.shape)
