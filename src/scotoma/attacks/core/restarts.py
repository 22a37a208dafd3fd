"""Minimum-norm searches that restart towards the nearest wrong classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.base import MinimumNormAttack
from scotoma.attacks.core.losses import margin, targeted_margin, wrong_logits
from scotoma.attacks.core.nearest import DUAL, Nearest, inwards, size
from scotoma.attacks.core.oracle import Loss, Oracle
from scotoma.utils.random import Randomness

RANKED = 9
"""Number of classes, the likeliest, whose distance is estimated by a backward pass each."""


@dataclass
class Aimed(Nearest):
    """State of a search that may have a target class."""

    random: Randomness
    targets: Tensor
    """wrong classes in the order of restarts; the label last"""
    target: Tensor
    """target class of a restart"""

    def lead(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the margin of the target over the label, (n,)."""
        return targeted_margin(logits, labels, self.target)

    def rank(self, ranked: int, adversarial: Tensor, dual: str) -> None:
        """Sort the first `ranked` classes by the distance of their linearised boundaries.

        `dual` is the norm dual to that of the distance.
        """
        classes = self.targets[:, :ranked]

        def leads(logits: Tensor, labels: Tensor) -> Tensor:
            return logits.gather(1, classes) - logits.gather(1, labels[:, None])

        half = (adversarial[self.rows] - self.clean) / 2
        slopes, leading, _ = self.oracle.jacobian(self.clean + half, leads)
        leading = leading - (slopes * half[:, None]).flatten(2).sum(2)
        steepness = size(inwards(slopes, self.clean[:, None]).flatten(0, 1), dual).view_as(leading)
        distance = (-leading / steepness).nan_to_num(torch.inf, torch.inf, -torch.inf)
        order = distance.argsort(dim=1, stable=True)
        self.targets = torch.cat([classes.gather(1, order), self.targets[:, ranked:]], 1)


State = TypeVar("State", bound=Aimed)


class Restarted(MinimumNormAttack, ABC, Generic[State]):
    """A search towards the leading class, then several towards one wrong class each.

    A search settles on one class although another is often nearer. Restarts go to the classes with
    the nearest boundaries, as linearised half-way to the best perturbation: gradients may be flat
    nearer to the image, and farther out they depend on one class only.

    A subclass is a dataclass with these settings, and defines one search.
    """

    steps: int
    restarts: int
    restart_steps: int

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        adversarial = images.clone()
        oracle = Oracle(model, labels)
        logits = oracle.logits(images)
        targets = wrong_logits(logits, labels).argsort(dim=1, descending=True, stable=True)
        state = self._begin(oracle, random, images, targets)
        state.drop(~(margin(logits, labels) <= 0))  # which holds for what is not a number, too
        classes = logits.shape[1] - 1
        ranked = min(classes, RANKED) if 0 < self.restarts < classes else 0
        first_steps = max(
            1, self.steps - self.restarts * self.restart_steps - (ranked and ranked // 2 + 1)
        )
        self._search(state, first_steps, margin, adversarial)
        if ranked and len(state):
            state.rank(ranked, adversarial, DUAL[self.norm])
        for restart in range(self.restarts):
            state.target = state.targets[:, restart % classes]
            self._search(state, self.restart_steps, state.lead, adversarial)
        return adversarial

    @abstractmethod
    def _begin(self, oracle: Oracle, random: Randomness, images: Tensor, targets: Tensor) -> State:
        """Return the first state; `targets` are the classes (n, classes), the likeliest wrong one
        first."""

    @abstractmethod
    def _search(self, state: State, steps: int, loss: Loss, adversarial: Tensor) -> None:
        """Run one search, with the loss `margin`, or `state.lead` in a restart; keep the best."""
