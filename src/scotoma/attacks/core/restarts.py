"""Minimum-norm searches that start again towards the nearest wrong classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.base import MinimumNormAttack
from scotoma.attacks.core.losses import margin, targeted_margin
from scotoma.attacks.core.nearest import Nearest, inwards, size
from scotoma.attacks.core.oracle import Loss, Oracle
from scotoma.attacks.fmn import DUAL
from scotoma.utils.random import Randomness

RANKED = 9
"""Classes whose distance is estimated, the likeliest ones, a backward pass each."""


@dataclass
class Aimed(Nearest):
    """The state of a search that may head for one class."""

    random: Randomness
    likely: Tensor
    """wrong classes, in the order in which restarts go towards them; the label last"""
    target: Tensor
    """the class that a restart heads for"""

    def lead(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of the target over the label, (n,)."""
        return targeted_margin(logits, labels, self.target)

    def rank(self, ranked: int, found: Tensor, dual: str) -> None:
        """Put the first `ranked` classes in the order of their linear boundaries' distances from the clean image, in the norm
        that is dual to `dual`."""
        classes = self.likely[:, :ranked]

        def leads(logits: Tensor, labels: Tensor) -> Tensor:
            return logits.gather(1, classes) - logits.gather(1, labels[:, None])

        way = (found[self.rows] - self.clean) / 2
        slopes, leading, _ = self.oracle.jacobian(self.clean + way, leads)
        leading = leading - (slopes * way[:, None]).flatten(2).sum(2)
        steepness = size(inwards(slopes, self.clean[:, None]).flatten(0, 1), dual).view_as(leading)
        distance = (-leading / steepness).nan_to_num(torch.inf, torch.inf, -torch.inf)
        order = distance.argsort(dim=1, stable=True)
        self.likely = torch.cat([classes.gather(1, order), self.likely[:, ranked:]], 1)


State = TypeVar("State", bound=Aimed)


class Restarted(MinimumNormAttack, ABC, Generic[State]):
    """A search towards whichever class leads, and after it several towards one wrong class each.

    One search settles with one class, and another is often nearer. Which, the model says when it is linearised half way to the
    perturbation found: nearer to the image gradients may be flat, farther out they know only of the class found. Restarts go
    towards the classes whose linear boundaries are nearest to the image, in that order, where there are too few for all.

    A subclass is a dataclass with these settings, and says what one search is.
    """

    steps: int
    restarts: int
    restart_steps: int

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        """The closest adversarial images found, (n, c, h, w); unchanged where there is none or the model is wrong already."""
        found = images.clone()
        oracle = Oracle(model, labels)
        logits = oracle.logits(images)
        likely = logits.scatter(1, labels[:, None], -torch.inf).argsort(
            dim=1, descending=True, stable=True
        )
        state = self._begin(oracle, random, images, likely)
        state.drop(~(margin(logits, labels) <= 0))  # which holds for what is not a number, too
        classes = logits.shape[1] - 1
        ranked = min(classes, RANKED) if 0 < self.restarts < classes else 0
        first = max(
            1, self.steps - self.restarts * self.restart_steps - (ranked and ranked // 2 + 1)
        )
        self._search(state, first, margin, found)
        if ranked and len(state):
            state.rank(ranked, found, DUAL[self.norm])
        for restart in range(self.restarts):
            state.target = state.likely[:, restart % classes]
            self._search(state, self.restart_steps, state.lead, found)
        return found

    @abstractmethod
    def _begin(self, oracle: Oracle, random: Randomness, images: Tensor, likely: Tensor) -> State:
        """What the searches begin with; `likely` are the classes (n, classes), the likeliest wrong one first."""

    @abstractmethod
    def _search(self, state: State, steps: int, loss: Loss, found: Tensor) -> None:
        """One search: `found` and `state.best` keep the best. The loss is `margin`, or for a restart `state.lead`."""
