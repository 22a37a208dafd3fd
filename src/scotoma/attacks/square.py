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
from scotoma.utils.random import Randomness

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10,000, after which the share of pixels in a square halves (section 3.1)."""


DRAWN = 50
"""Queries whose random numbers are drawn at once, since drawing costs as much as a small network.
"""


@dataclass(frozen=True)
class Square(BoundedAttack):
    """Sets a random square to one side of the ball, and keeps it where the margin grows.

    Andriushchenko et al. 2020, "Square attack: a query-efficient black-box adversarial attack via
    random search", L-inf, Algorithms 1 and 2. It uses logits alone, so vanishing or wrong gradients
    do not mislead it. Images that it does not fool are returned unchanged. `start` replaces the
    vertical stripes at which it begins.

    Args:
        threat: the L-inf ball.
        queries: forward passes an image; one that is fooled leaves.
        share: share of the image's pixels in the first squares.

    >>> import torch
    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> Square("linf:0.2")(nn.Flatten(), images, labels)
    tensor([[[[0.4000, 0.6000]]]])
    """

    id: ClassVar[str] = "square"
    gradients: ClassVar = False
    queries: int = 5000
    share: float = 0.8

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        stripes = (random.uniform(images[:, :, :1]) < 0.5).to(images).mul_(2).sub_(1)
        return self.run_from(images + self.threat.eps * stripes, model, images, labels, random)

    def run_from(
        self, start: Tensor, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> Tensor:
        adversarial = images.clone()
        upper, lower = (
            self.threat.project(images + sign * self.threat.eps, images) for sign in (1, -1)
        )
        x = self.threat.project(start, images).contiguous()
        nothing = torch.full_like(labels, -torch.inf, dtype=torch.float32)
        state = _State(
            Oracle(model, labels), random, upper, lower, x, gain=nothing, chances=nothing
        )
        state.drop(state.oracle.fooled(images))
        proposal = state.x
        for query in range(self.queries):
            if not len(state):
                break
            logits = state.oracle.logits(proposal)
            gain = margin(logits, state.oracle.labels)
            done = gain > GUARD * logits.abs().amax(1)
            adversarial[state.rows[done]] = proposal[done]
            better = (gain > state.gain).nonzero().squeeze(1)
            state.x.index_copy_(0, better, proposal.index_select(0, better))
            state.gain.index_copy_(0, better, gain.index_select(0, better))
            state.drop(done)
            if len(state):
                if query % DRAWN == 0:
                    state.chances = state.random.uniform(
                        state.x.new_empty(len(state), DRAWN, 2 + images.shape[1])
                    )
                proposal = self._propose(
                    state, state.chances[:, query % DRAWN], self._side(query, images.shape[-2:])
                )
        return adversarial

    def _side(self, query: int, size: torch.Size) -> int:
        """Return the side of the squares at a query, in pixels (section 3.1)."""
        halvings = sum(query / self.queries * 10_000 > mark for mark in HALVINGS)
        pixels = self.share / 2**halvings * size[0] * size[1]
        return min(max(1, round(pixels**0.5)), min(size))

    @staticmethod
    def _propose(state: _State, chance: Tensor, side: int) -> Tensor:
        """Return copies of the images with one square moved to the ball's upper or lower end.

        `chance`, (n, 2 + channels) in [0, 1), sets the place of the square and the end for each
        channel.
        """
        n, channels, height, width = state.x.shape
        top = (chance[:, 0] * (height - side + 1)).long()
        left = (chance[:, 1] * (width - side + 1)).long()
        offsets = torch.arange(side, device=top.device)
        window = (top[:, None, None] + offsets[:, None]) * width + left[:, None, None] + offsets
        window = window.view(n, 1, -1).expand(-1, channels, -1)
        up = chance[:, 2:, None] < 0.5
        ends = (part.flatten(2).gather(2, window) for part in (state.upper, state.lower))
        proposal = state.x.clone()
        proposal.view(n, channels, -1).scatter_(2, window, torch.where(up, *ends))
        return proposal


@dataclass
class _State(Active):
    random: Randomness
    upper: Tensor
    """upper end of the ball, inside [0, 1]"""
    lower: Tensor
    x: Tensor
    """best image so far, (n, c, h, w)"""
    gain: Tensor
    """its margin, (n,)"""
    chances: Tensor
    """random numbers of the next queries, (n, DRAWN, 2 + c)"""
