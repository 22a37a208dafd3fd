"""The smallest L-inf perturbation, by a ball that closes in on the decision boundary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scotoma.attacks.core.base import from_zero
from scotoma.attacks.core.losses import margin
from scotoma.attacks.core.nearest import column
from scotoma.attacks.core.oracle import Loss, Oracle
from scotoma.attacks.core.restarts import Aimed, Restarted
from scotoma.utils.random import Randomness

WIDEST_SHRINK = 0.5
FINEST_SHRINK = 0.001
PATIENCE = 2


@dataclass
class _State(Aimed):
    radius: Tensor
    shrink: Tensor
    failures: Tensor


@dataclass(frozen=True)
class MinLinf(Restarted[_State]):
    """Minimum-norm L-inf attack: signed steps on the margin in a ball of adaptive radius.

    Each image has its own ball. It starts wide and at a random point, where robust models are easy
    to fool. A success sets the radius just below the perturbation and doubles the share by
    which the next success shrinks it; `PATIENCE` steps without one halve that share, which opens
    the ball again. So the radius falls fast at first and ends as a bisection below the best
    perturbation. Following the boundary inwards from far away escapes the flat regions around clean
    images of adversarially trained models (seen on MNIST).

    Args:
        norm: "linf".
        steps: gradient steps in all, each a forward and a backward pass, including the passes that
            rank the classes.
        restarts: searches towards one wrong class each, the nearest first, from a new random point
            inside the best perturbation, after the one towards the leading class, which gets the
            other steps.
        restart_steps: gradient steps of each restart.
        radius: radius of the first ball; it grows while an image has not been fooled at all.
        until: an image leaves once its perturbation is smaller; 0 searches to the end.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> MinLinf("linf")(torch.nn.Flatten(), images, labels).round(decimals=2)
    tensor([[[[0.5000, 0.5000]]]])
    """

    id: ClassVar[str] = "min-linf"
    steps: int = 100
    restarts: int = from_zero(2)
    restart_steps: int = 30
    radius: float = 0.5
    until: float = 0.0

    def _begin(self, oracle: Oracle, random: Randomness, images: Tensor, targets: Tensor) -> _State:
        wide = images.new_full((len(images),), self.radius)
        nothing = torch.full_like(wide, torch.inf)
        return _State(
            oracle, images, images, nothing, random, targets, oracle.labels, wide, wide, wide
        )

    def _search(self, state: _State, steps: int, loss: Loss, adversarial: Tensor) -> None:
        """Run one descent from a random point of the ball."""
        if not len(state):
            return
        state.radius = state.best.clamp(max=self.radius)
        shrink = WIDEST_SHRINK / 2 if loss is margin else FINEST_SHRINK
        state.shrink = torch.full_like(state.radius, shrink)
        state.failures = torch.zeros_like(state.radius)
        noise = 2 * state.random.uniform(state.clean) - 1
        state.x = (state.clean + noise.mul_(column(state.radius))).clamp_(0, 1)
        for step in range(steps):
            gradient, _, fooled = state.oracle.value_and_grad(state.x, loss)
            self._adapt(state, fooled, adversarial)
            arrived = state.best < self.until
            if bool(arrived.any()):
                gradient = gradient[~arrived]
                state.drop(arrived)
                if not len(state):
                    return
            pace = 0.01 + 0.49 * (1 + math.cos(math.pi * step / steps)) / 2
            radius = column(state.radius)
            move = gradient.sign_().mul_(pace * radius).add_(state.x).sub_(state.clean)
            state.x = move.clamp_(-radius, radius).add_(state.clean).clamp_(0, 1)
        state.keep(state.oracle.fooled(state.x), "linf", adversarial)

    @staticmethod
    def _adapt(state: _State, fooled: Tensor, adversarial: Tensor) -> None:
        """Keep what is nearer than before, and adapt the radius."""
        before = state.best
        state.keep(fooled, "linf", adversarial)
        success = state.best < before
        state.failures = torch.where(success, 0, state.failures + 1)
        stuck = state.failures >= PATIENCE
        state.failures = torch.where(stuck, 0, state.failures)
        wider = torch.where(stuck, (state.shrink / 2).clamp(min=FINEST_SHRINK), state.shrink)
        state.shrink = torch.where(success, (state.shrink * 2).clamp(max=WIDEST_SHRINK), wider)
        never = state.best.isinf()
        grown = torch.where(stuck, (state.radius * 1.5).clamp(max=1.0), state.radius)
        state.radius = torch.where(never, grown, state.best * (1 - state.shrink))
