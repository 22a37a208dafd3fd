"""Carlini and Wagner's L2 attack (2017, section VI-A), every image at its own pace."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.carlini_wagner import Solve
from scotoma.attacks.core.base import MinimumNormAttack, from_zero
from scotoma.attacks.core.nearest import (
    FIRST_MOMENT,
    SECOND_MOMENT,
    column,
    guarded_margin,
    inwards,
    size,
    soft_margin,
)
from scotoma.attacks.core.oracle import Oracle
from scotoma.utils.random import Randomness

LARGEST_CONST = 1e10
"""Largest c, which keeps the squares of gradients in Adam finite."""
NEAREST = 1e-4
"""Least expected distance of a boundary; on the boundary itself the first c would be and stay 0."""


@dataclass(frozen=True)
class CarliniWagnerL2(MinimumNormAttack):
    """The smallest L2 perturbation, by a penalty on its square against a hinge on the margin.

    A solve at c descends, with Adam on the image x' itself,

        ||x' - x||^2 + c * max(0, z_label - max_{j != label} z_j),

    and c is searched: it grows after a solve without a fooling image and falls after one with, by
    `const_factor` until it lies between two values tried, then by their geometric mean. Each image
    has its own c and Adam state. An iteration is one forward and one backward pass, and the nearest
    fooling iterate is returned. Deterministic.

    Five differences from the authors' code, which takes up to 90,000 iterations:

    * x' is clipped to [0, 1] after each step (section V-B, projected descent) instead of being
      tanh(w) / 2 + 1/2, whose gradient vanishes at 0 and 1: this finds nearer images (docs/log.md).
    * The first c is the one at which a linear model would just be fooled: no scale of logits is
      assumed.
    * A solve ends when it stalls (`patience`, `tolerance`).
    * The first `cold` solves start at the image, where another c can find another class; the others
      start at the best result.
    * Before the first success the hinge is on `soft_margin`, whose gradient depends on all classes.

    Args:
        norm: "l2".
        learning_rate: Adam's, in pixel units.
        iterations: maximum for one solve.
        searches: number of solves, each at its c.
        cold: number of solves that start at the image.
        const_factor: growth or fall of c while only one side of the search is known.
        patience: iterations without progress after which a solve has stalled.
        tolerance: relative fall of the loss that counts as progress.
        softness: softness of the margin before the first success.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> CarliniWagnerL2("l2", searches=2)(nn.Flatten(), images, labels).argmax().item()
    1
    """

    id: ClassVar[str] = "cw-l2"
    norms: ClassVar = ("l2",)
    learning_rate: float = 0.01
    iterations: int = 200
    searches: int = 9
    cold: int = from_zero(5)
    const_factor: float = 10.0
    patience: int = 20
    tolerance: float = from_zero(0.005)
    softness: float = 0.2

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        adversarial = images.clone()
        if not len(images):
            return adversarial
        state, soft = self._begin(Oracle(model, labels), images), soft_margin(self.softness)

        def hinge(logits: Tensor, labels: Tensor) -> Tensor:
            margin, never = guarded_margin(logits, labels), state.best.isinf()
            if bool(never.any()):
                margin = torch.where(never, soft(logits, labels), margin)
            return margin.clamp(max=0)

        while len(state):
            gradient, margin, fooled = state.oracle.value_and_grad(state.x, hinge)
            distance = state.keep(fooled, "l2", adversarial)
            state.solved |= fooled
            loss = distance.square() - state.const * margin
            ended = state.stalled(loss, self.tolerance, self.patience, self.iterations)
            penalty = (state.x - state.clean).mul_(2)
            self._step(state, penalty.addcmul_(column(state.const), gradient, value=-1))
            self._next_solve(state, ended.nonzero().squeeze(1), adversarial)
        return adversarial

    def _begin(self, oracle: Oracle, images: Tensor) -> _State:
        """Return the state of the images that are classified correctly and have a gradient."""
        gradient, margin, wrong = oracle.value_and_grad(images, guarded_margin)
        steepness = size(inwards(gradient, images), "l2")
        ones = images.new_ones(len(images))
        const = 2 * (-margin / steepness).clamp_min(NEAREST) / steepness
        state = _State.at(
            oracle,
            images,
            const=const.clamp_(max=LARGEST_CONST),
            low=0 * ones,
            high=math.inf * ones,
            number=0 * ones,
            solved=ones < 0,
        )
        state.drop(wrong | (steepness == 0))
        return state

    def _step(self, state: _State, gradient: Tensor) -> None:
        """Take one Adam step with each image, inside [0, 1]."""
        state.age += 1
        rate = self.learning_rate * (1 - SECOND_MOMENT**state.age).sqrt_()
        state.descend(gradient, column(rate / (1 - FIRST_MOMENT**state.age)))

    def _next_solve(self, state: _State, ended: Tensor, adversarial: Tensor) -> None:
        """Images at the indices `ended` continue with another c, or leave."""
        if not len(ended):
            return
        const, solved = state.const[ended], state.solved[ended]
        low = torch.where(solved, state.low[ended], const)
        high = torch.where(solved, const, state.high[ended])
        between = torch.where(low > 0, (low * high).sqrt(), high / self.const_factor)
        state.low[ended], state.high[ended] = low, high
        state.const[ended] = torch.where(high.isinf(), self.const_factor * low, between).clamp_(
            max=LARGEST_CONST
        )
        state.number[ended] += 1
        warm = column(state.number[ended] >= self.cold)
        state.x[ended] = torch.where(warm, adversarial[state.rows[ended]], state.clean[ended])
        state.solved.index_fill_(0, ended, False)
        state.begin_solve(ended)
        state.drop(state.number >= self.searches)


@dataclass
class _State(Solve):
    low: Tensor
    """largest c that failed, 0 before the first"""
    high: Tensor
    """smallest c that succeeded, infinite before the first"""
    number: Tensor
    """solves ended"""
    solved: Tensor
    """whether this solve has met a fooling image"""
