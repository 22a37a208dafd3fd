"""Carlini and Wagner's L-inf attack (2017, section VI-D), every image at its own pace."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from scotoma.attacks.core.base import MinimumNormAttack, from_zero
from scotoma.attacks.core.nearest import FIRST_MOMENT, SECOND_MOMENT, Descent, column, hinge
from scotoma.attacks.core.oracle import Oracle
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class CarliniWagnerLinf(MinimumNormAttack):
    """The smallest L-inf perturbation, by penalties on pixels beyond a shrinking bound tau.

    A solve at (tau, c) descends, with Adam on the image x' itself,

        c * max(0, z_label - max_{j != label} z_j) + sum_i max(|x'_i - x_i| - tau, 0).

    When x' fools the model within tau, tau falls to 0.9 times the distance, and the next solve
    starts from there with the same c. When a solve stalls, c doubles; beyond the largest c the
    start ends. Each image has its own tau, c and Adam state. An iteration is one forward and one
    backward pass, and the nearest fooling iterate is returned.

    As in Zhang et al. 2019 there are two starts, the image with Gaussian noise and blank grey. The
    second begins at the point nearest to grey in a box a little smaller than the best result's, so
    that its values of tau lie between those already tried.

    Five differences from the authors' code, which takes 21,000 iterations to give up:

    * x' is clipped to [0, 1] after each step (section V-B, projected descent) instead of being
      tanh(w) / 2 + 1/2, whose gradient vanishes at 0 and 1, where most pixels of a digit lie.
    * A solve ends when it stalls (`patience`, `tolerance`).
    * After a failure c skips values too small to move any pixel against the penalty (`least_push`).
    * Adam restarts at every c, not only at every tau: otherwise its second moment remembers pixels
      beyond tau, whose gradient is 1, for a thousand iterations.
    * A step is at most `step_share` of tau, since one as long as tau jumps over the box.

    Args:
        norm: "linf".
        learning_rate: Adam's, in pixel units.
        iterations: maximum for one solve.
        initial_const: first c of a start.
        largest_const: a start ends when c exceeds it.
        const_factor: growth of c after a failed solve.
        initial_tau: first tau, in pixel units.
        tau_factor: fall of tau after a successful solve.
        smallest_tau: a start ends when tau falls below it; by default one grey level.
        noise: standard deviation of the first start's noise, in pixel units.
        patience: iterations without progress after which a solve has stalled.
        tolerance: relative fall of the loss that counts as progress.
        step_share: longest step as a share of tau.
        least_push: least value, at some pixel, of c times the margin's gradient after a failure;
            the penalty's gradient is 1.
        until: an image leaves once its perturbation is smaller; 0 searches to the end.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> CarliniWagnerLinf("linf", iterations=9)(nn.Flatten(), images, labels).argmax().item()
    1
    """

    id: ClassVar[str] = "cw-linf"
    learning_rate: float = 5e-3
    iterations: int = 1000
    initial_const: float = 1e-5
    largest_const: float = 20.0
    const_factor: float = 2.0
    initial_tau: float = 1.0
    tau_factor: float = 0.9
    smallest_tau: float = 1 / 256
    noise: float = from_zero(0.2)
    patience: int = 8
    tolerance: float = from_zero(0.05)
    step_share: float = 0.05
    least_push: float = 0.1
    until: float = 0.0

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        adversarial = images.clone()
        ones = images.new_ones(len(images))
        initial = {"tau": self.initial_tau * ones, "const": self.initial_const * ones}
        state = _State.begin(model, images, labels, **initial, second=ones < 0)
        noise = self.noise * random.select(state.rows).normal(state.clean)
        state.x.add_(noise).clamp_(0, 1)
        while len(state):
            gradient, lead, fooled = state.oracle.value_and_grad(state.x, hinge)
            delta = state.x - state.clean
            distance = state.keep(fooled, "linf", adversarial)

            won = fooled & (distance <= state.tau)
            state.tau = torch.where(won, self.tau_factor * distance, state.tau)
            beyond = delta.abs().sub_(column(state.tau)).clamp_(min=0)
            loss = beyond.flatten(1).sum(1) - state.const * lead
            failed = state.stalled(loss, self.tolerance, self.patience, self.iterations) & ~won
            self._raise_const(state, failed.nonzero().squeeze(1), gradient, fooled)
            state.begin_solve((won | failed).nonzero().squeeze(1))

            signs = beyond.sign_().copysign_(delta)
            self._step(state, signs.addcmul_(column(state.const), gradient, value=-1))
            self._next_start(state)
        return adversarial

    def _raise_const(self, state: _State, failed: Tensor, gradient: Tensor, fooled: Tensor) -> None:
        """Raise c for the images at the indices `failed`."""
        if not len(failed):
            return
        useful = self.least_push / gradient[failed].abs().flatten(1).amax(1)
        useful = useful.clamp_(max=self.largest_const).masked_fill(fooled[failed], 0)
        state.const[failed] = useful.maximum(self.const_factor * state.const[failed])

    def _step(self, state: _State, gradient: Tensor) -> None:
        """Take one Adam step with each image, inside [0, 1]."""
        state.age += 1
        rate = (self.step_share * state.tau).clamp_(max=self.learning_rate)
        rate *= (1 - SECOND_MOMENT**state.age).sqrt_() / (1 - FIRST_MOMENT**state.age)
        state.descend(gradient, column(rate))

    def _next_start(self, state: _State) -> None:
        """Images whose start has ended continue with the second, or leave."""
        arrived = state.best < self.until
        done = arrived | (state.const > self.largest_const) | (state.tau < self.smallest_tau)
        if not bool(done.any()):
            return
        tau = (math.sqrt(self.tau_factor) * state.best).clamp_(max=self.initial_tau)
        restart = done & ~arrived & ~state.second & (tau >= self.smallest_tau)
        grey, bound = torch.full_like(state.x, 0.5), column(tau)
        grey = grey.maximum(state.clean - bound).minimum(state.clean + bound)
        state.x = torch.where(column(restart), grey, state.x)
        state.tau = torch.where(restart, tau, state.tau)
        state.const = state.const.masked_fill(restart, self.initial_const)
        state.second = state.second | restart
        state.begin_solve(restart.nonzero().squeeze(1))
        state.drop(done & ~restart)


@dataclass
class Solve(Descent):
    """State of a search for the c of a penalty, by one descent after the other."""

    const: Tensor
    lowest: Tensor
    """loss at the last progress of this solve"""
    idle: Tensor
    """iterations since"""
    age: Tensor
    """iterations of this solve"""

    @classmethod
    def at(cls, oracle: Oracle, images: Tensor, **more: Any) -> Self:
        one = images.new_ones(len(images))
        return super().at(oracle, images, lowest=math.inf * one, idle=0 * one, age=0 * one, **more)

    def stalled(self, loss: Tensor, tolerance: float, patience: int, iterations: int) -> Tensor:
        """Note the loss, (n,), and return which solves have ended."""
        progress = loss < (1 - tolerance) * self.lowest
        self.lowest = torch.where(progress, loss, self.lowest)
        self.idle = torch.where(progress, 0, self.idle + 1)
        return (self.idle >= patience) | (self.age >= iterations)

    def begin_solve(self, indices: Tensor) -> None:
        """Reset the optimizer of the images at `indices`; they stay where they are."""
        for part in (self.mean, self.square, self.idle, self.age):
            part.index_fill_(0, indices, 0)
        self.lowest.index_fill_(0, indices, math.inf)


@dataclass
class _State(Solve):
    tau: Tensor
    second: Tensor
    """whether the image is at its second start"""
