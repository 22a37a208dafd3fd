"""Random search over squares, without gradients (Andriushchenko et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.active import Active
from scotoma.attacks.core.base import BoundedAttack
from scotoma.attacks.core.losses import GUARD, margin
from scotoma.attacks.core.oracle import Oracle
from scotoma.attacks.core.search import ahead
from scotoma.attacks.square_l2 import Masses, windows
from scotoma.utils.device import batch_size
from scotoma.utils.logits import magnitude
from scotoma.utils.random import Randomness

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10,000, after which the share of pixels in a square halves (section 3.1)."""


DRAWN = 50
"""Queries whose random numbers are drawn at once, since drawing costs as much as a small network.
"""


@dataclass(frozen=True)
class Square(BoundedAttack):
    """Changes a random square of the perturbation, and keeps the change where the margin grows.

    Andriushchenko et al. 2020, "Square attack: a query-efficient black-box adversarial attack via
    random search". In L-inf (Algorithm 2) a square goes to one end of the ball. In L2 (Algorithm 3,
    `Masses`) a square takes the mass of another one. It uses logits alone, so vanishing or wrong
    gradients do not mislead it. `start` replaces the stripes or tiles at which it begins.

    Args:
        threat: the L-inf or L2 ball.
        queries: proposals of an image; one that is fooled leaves. Each is a forward pass. Where few
            images are left, some are tried ahead in vain: up to a third more passes.
        share: share of the image's pixels in the first squares.

    >>> import torch
    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> Square("linf:0.2")(nn.Flatten(), images, labels)
    tensor([[[[0.4000, 0.6000]]]])
    """

    id: ClassVar[str] = "square"
    norms: ClassVar = ("linf", "l2")
    gradients: ClassVar = False
    queries: int = 5000
    share: float = 0.8

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        moves = self._moves(images)
        return self._search(moves, moves.start(random), Oracle(model, labels), images, random)

    def run_from(
        self, start: Tensor, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> Tensor:
        start = self.threat.project(start, images).contiguous()
        return self._search(self._moves(images), start, Oracle(model, labels), images, random)

    def _moves(self, images: Tensor) -> Squares | Masses:
        if self.norm == "l2":
            return Masses(images.contiguous(), self.threat.eps)
        ends = (self.threat.project(images + sign * self.threat.eps, images) for sign in (1, -1))
        return Squares(*ends)

    def _search(
        self, moves: Squares | Masses, x: Tensor, oracle: Oracle, images: Tensor, random: Randomness
    ) -> Tensor:
        adversarial = images.clone()
        nothing = torch.full_like(oracle.labels, -torch.inf, dtype=torch.float32)
        state = _State(oracle, random, moves, x, gain=nothing, chances=nothing)
        state.drop(state.oracle.fooled(images))
        if not len(state):
            return adversarial
        fooled, state.gain = state.judge(state.x)
        state.finish(fooled, state.x, adversarial)
        fill, rate, query = batch_size(x.device, x[0].numel()), 0.2, 0
        while query < self.queries - 1 and len(state):
            if query % DRAWN == 0:
                numbers = state.x.new_empty(len(state), DRAWN, state.moves.chances)
                state.chances = state.random.uniform(numbers)
            at, side = query % DRAWN, self._side(query, x.shape[-2:])
            most = min(DRAWN - at, self.queries - 1 - query, fill // len(state), ahead(rate))
            count = 1
            while count < most and self._side(query + count, x.shape[-2:]) == side:
                count += 1
            fooled, accepted = state.advance(state.chances[:, at : at + count], side)
            rate += (accepted / (count * len(state)) - rate) * count / DRAWN
            state.finish(fooled, state.x, adversarial)
            query += count
        return adversarial

    def _side(self, query: int, size: torch.Size) -> int:
        """Return the side of the squares at a query, in pixels (section 3.1)."""
        halvings = sum(query / self.queries * 10_000 > mark for mark in HALVINGS)
        pixels = self.share / 2**halvings * size[0] * size[1]
        return min(max(1, round(pixels**0.5)), min(size))


@dataclass
class Squares:
    """Images in an L-inf ball, and copies with one square moved to an end of the ball."""

    upper: Tensor
    """upper end of the ball inside [0, 1], (n, c, h, w)"""
    lower: Tensor

    @property
    def chances(self) -> int:
        """Random numbers that an image's proposal takes."""
        return 2 + self.upper.shape[1]

    def select(self, keep: Tensor) -> Squares:
        """Return the balls of the images in `keep`."""
        return Squares(self.upper.index_select(0, keep), self.lower.index_select(0, keep))

    def start(self, random: Randomness) -> Tensor:
        """Return vertical stripes, each at a random end of the ball in each channel."""
        up = random.uniform(self.upper[:, :, :1]) < 0.5
        return torch.where(up, self.upper, self.lower)

    def propose(self, x: Tensor, chance: Tensor, side: int) -> Tensor:
        """Return copies of `x` with one square moved; `chance` sets its place, and its ends."""
        n, channels, height, width = x.shape
        window = windows(chance, side, height, width).view(n, 1, -1).expand(-1, channels, -1)
        up = chance[:, 2:, None] < 0.5
        ends = (part.flatten(2).gather(2, window) for part in (self.upper, self.lower))
        proposal = x.clone(memory_format=torch.contiguous_format)
        proposal.view(n, channels, -1).scatter_(2, window, torch.where(up, *ends))
        return proposal


@dataclass
class _State(Active):
    random: Randomness
    moves: Squares | Masses
    x: Tensor
    """best image so far, (n, c, h, w)"""
    gain: Tensor
    """its margin, (n,)"""
    chances: Tensor
    """random numbers of the next queries, (n, DRAWN, 2 + c) or (n, DRAWN, 5 + c)"""

    def judge(self, x: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return which of `x`, by default one of each image, fool, and their margins."""
        oracle = self.oracle if rows is None else self.oracle.select(rows)
        logits = oracle.logits(x)
        gain = margin(logits, oracle.labels)
        return gain > GUARD * magnitude(logits), gain

    def advance(self, chances: Tensor, side: int) -> tuple[Tensor, int]:
        """Try k proposals one after the other; if there are few images, at once with equal results.

        `chances` are their random numbers, (n, k, chances). Return which images are fooled, bool
        (n,), and how many proposals were kept.
        """
        n, count = chances.shape[:2]
        first = torch.zeros(n, dtype=torch.int64, device=self.x.device)
        fooled, accepted = first.bool(), 0
        column = torch.arange(count, device=self.x.device)
        while len(rows := (pending := first < count).nonzero().squeeze(1)):
            if count > 1:
                rows, turn = (pending[:, None] & (column >= first[:, None])).nonzero().unbind(1)
            else:
                turn = first
            alone = len(rows) == n == count * n
            moves, x = (self.moves, self.x) if alone else (self.moves.select(rows), self.x[rows])
            proposal = moves.propose(x, chances[rows, turn], side)
            fools, gain = self.judge(proposal, None if alone else rows)
            better = gain > self.gain[rows]
            improved_at = torch.where(better, turn, count)
            first = torch.full_like(first, count).scatter_reduce_(0, rows, improved_at, "amin")
            winners = (better & (turn == first[rows])).nonzero().squeeze(1)
            rows = rows[winners]
            self.x.index_copy_(0, rows, proposal.index_select(0, winners))
            self.gain.index_copy_(0, rows, gain.index_select(0, winners))
            fooled.index_copy_(0, rows, fools.index_select(0, winners))
            accepted += len(rows)
            first = torch.where(fooled, count, first + 1)
        return fooled, accepted
