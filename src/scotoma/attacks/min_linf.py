"""The smallest L-inf perturbation, by a ball that closes in on the decision boundary."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scotoma.attacks.active import Active
from scotoma.attacks.losses import margin
from scotoma.attacks.nearest import column, inwards, size
from scotoma.attacks.oracle import Oracle
from scotoma.claim import Threat
from scotoma.randomness import Randomness

WIDEST_SHRINK = 0.5
FINEST_SHRINK = 0.001
PATIENCE = 2
RANKED = 9
"""Classes whose distance is estimated, the likeliest ones, a backward pass each."""


@dataclass(frozen=True)
class MinLinf:
    """Minimum-norm L-inf attack: signed steps on the logit margin in a ball whose radius gallops and bisects.

    Each image has a ball of its own. It starts wide and at a random point, where robust models are easy to fool; every
    success sets it just inside the perturbation found and doubles the share by which the next success shrinks it; `PATIENCE`
    steps without one halve that share, which opens the ball again. So the radius falls fast while that is easy and ends as a
    bisection just below the best perturbation known. Following the boundary inwards from far away escapes the flat
    regions around clean images in which descent from the clean image stays (on adversarially trained MNIST models).

    One search settles with one class, and another is often nearer. Which, the model says when it is linearised half way to the
    perturbation found: nearer to the image gradients may be flat, farther out they know only of the class found. Restarts go
    towards the classes whose linear boundaries are nearest to the image, in that order, where there are too few for all.

    Args:
        threat: its norm is minimised; eps bounds nothing here.
        steps: gradient steps in all, each a forward and a backward pass; the passes that order the classes count as well.
        restarts: how many of the searches go towards one wrong class, the nearest first, from a new random point inside
            the best perturbation so far; they come after one towards whichever class leads, which gets the other steps.
        restart_steps: gradient steps of each restart.
        radius: of the first ball; it grows while an image has not been fooled at all.
        until: an image leaves once its perturbation is smaller than this; 0 searches to the end.
    """

    threat: Threat
    steps: int = 100
    restarts: int = 2
    restart_steps: int = 30
    radius: float = 0.5
    until: float = 0.0

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, generator: Randomness | None = None) -> Tensor:
        """The closest adversarial images found, (n, c, h, w); unchanged where there is none or the model is wrong already."""
        found = images.clone()
        oracle = Oracle(model, labels)
        logits = oracle.logits(images)
        likely = logits.scatter(1, labels[:, None], -torch.inf).argsort(dim=1, descending=True, stable=True)
        wide = torch.full_like(logits[:, 0], self.radius)
        nothing = torch.full_like(wide, torch.inf)
        state = _State(oracle, generator or Randomness.default(images), images, images, nothing, wide, wide, wide, likely, labels)
        state.drop(margin(logits, labels) > 0)
        classes = logits.shape[1] - 1
        ranked = min(classes, RANKED) if 0 < self.restarts < classes else 0
        self._search(state, max(1, self.steps - self.restarts * self.restart_steps - (ranked and ranked // 2 + 1)), None, found)
        if ranked and len(state):
            self._rank(state, ranked, found)
        for restart in range(self.restarts):
            state.target = state.likely[:, restart % classes]
            self._search(state, self.restart_steps, state, found)
        return found

    def _search(self, state: _State, steps: int, towards: _State | None, found: Tensor) -> None:
        """One descent from a random point of the ball; `found` and the distances in `state` keep the best."""

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            if towards is None:
                return margin(logits, labels)
            return (logits.gather(1, towards.target[:, None]) - logits.gather(1, labels[:, None])).squeeze(1)

        if not len(state):
            return
        state.radius = state.distance.clamp(max=self.radius)
        state.shrink = torch.full_like(state.radius, FINEST_SHRINK if towards else WIDEST_SHRINK / 2)
        state.failures = torch.zeros_like(state.radius)
        state.x = state.clean + (2 * state.random.uniform(state.clean) - 1).mul_(column(state.radius))
        state.x.clamp_(0, 1)
        for step in range(steps + 1):
            last = step == steps
            if last:
                fooled = state.oracle.fooled(state.x)
                gradient = state.x
            else:
                gradient, _, fooled = state.oracle.ascent(state.x, loss)
            self._adapt(state, fooled, found)
            if last:
                break
            arrived = state.distance < self.until
            if bool(arrived.any()):
                gradient = gradient[~arrived]
                state.drop(arrived)
                if not len(state):
                    return
            pace = 0.01 + 0.49 * (1 + math.cos(math.pi * step / steps)) / 2
            radius = column(state.radius)
            move = gradient.sign_().mul_(pace * radius).add_(state.x).sub_(state.clean)
            state.x = move.clamp_(-radius, radius).add_(state.clean).clamp_(0, 1)

    @staticmethod
    def _rank(state: _State, ranked: int, found: Tensor) -> None:
        """Put the first `ranked` classes in the order of their linear boundaries' distances from the clean image."""
        classes = state.likely[:, :ranked]

        def leads(logits: Tensor, labels: Tensor) -> Tensor:
            return logits.gather(1, classes) - logits.gather(1, labels[:, None])

        way = (found[state.rows] - state.clean) / 2
        slopes, leading, _ = state.oracle.jacobian(state.clean + way, leads)
        leading = leading - (slopes * way[:, None]).flatten(2).sum(2)
        steepness = size(inwards(slopes, state.clean[:, None]).flatten(0, 1), "l1").view_as(leading)
        distance = (-leading / steepness).nan_to_num(torch.inf, torch.inf, -torch.inf)
        order = distance.argsort(dim=1, stable=True)
        state.likely = torch.cat([classes.gather(1, order), state.likely[:, ranked:]], 1)

    @staticmethod
    def _adapt(state: _State, fooled: Tensor, found: Tensor) -> None:
        """Keep what is closer than before, and move the radius."""
        rows = fooled.nonzero().squeeze(1)
        distance = (state.x[rows] - state.clean[rows]).abs_().flatten(1).amax(1)
        closer = distance < state.distance[rows]
        rows, distance = rows[closer], distance[closer]
        found[state.rows[rows]] = state.x[rows]
        state.distance = state.distance.index_copy(0, rows, distance)
        success = torch.zeros_like(fooled)
        success[rows] = True
        state.failures = torch.where(success, 0, state.failures + 1)
        stuck = state.failures >= PATIENCE
        state.failures = torch.where(stuck, 0, state.failures)
        wider = torch.where(stuck, (state.shrink / 2).clamp(min=FINEST_SHRINK), state.shrink)
        state.shrink = torch.where(success, (state.shrink * 2).clamp(max=WIDEST_SHRINK), wider)
        never = state.distance.isinf()
        grown = torch.where(stuck, (state.radius * 1.5).clamp(max=1.0), state.radius)
        state.radius = torch.where(never, grown, state.distance * (1 - state.shrink))


@dataclass
class _State(Active):
    random: Randomness
    clean: Tensor
    x: Tensor
    distance: Tensor
    """of the best perturbation known, infinite before the first success"""
    radius: Tensor
    shrink: Tensor
    failures: Tensor
    likely: Tensor
    """wrong classes, in the order in which restarts go towards them; the label last"""
    target: Tensor
