"""Sigma-zero: few changed pixels by gradient descent on a smooth count of them (Cina et al. 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.base import MinimumNormAttack
from scotoma.attacks.core.losses import GUARD, margin
from scotoma.attacks.core.nearest import TINY, Nearest, column, cosine, size
from scotoma.attacks.core.oracle import Oracle
from scotoma.attacks.refine import take_back
from scotoma.utils.random import Randomness

FIRST_MOMENT, SECOND_MOMENT, STABILITY = 0.9, 0.999, 1e-8
"""Adam's beta1, beta2 and epsilon."""


@dataclass(frozen=True)
class SigmaZero(MinimumNormAttack):
    """The fewest changed pixels that fool, by descent on the margin and on a smooth count, with a threshold that adapts.

    Cina et al. 2025, "Sigma-zero: gradient-based optimization of l0-norm adversarial examples", Algorithm 1: Adam descends the
    margin, cut off where the model is wrong, plus the mean over the pixels of s / (s + sigma), s a pixel's squared change, with
    gradients of L-inf norm 1. After each step the pixels that changed by less than tau are taken back; tau grows when the model
    is fooled and falls otherwise. Here a pixel counts once: s is summed, and the change that is held against tau is the largest,
    over its channels.

    In the end each changed pixel is moved as far as it can go, where the model stays fooled, and pixels are taken back as in
    `Pointwise` until none can be: the paper's result holds some that are not needed.

    Args:
        norm: "l0".
        steps: of descent, each one forward and one backward pass.
        rate: first and last length of Adam's steps; a cosine between them.
        sigma: how smooth the count is.
        threshold: first tau.
        adaption: by so much of the rate tau grows or falls a step.
        refine: take pixels back in the end.
    """

    id: ClassVar[str] = "sigma-zero"
    norms: ClassVar = ("l0",)
    steps: int = 300
    rate: tuple[float, float] = (1.0, 0.1)
    sigma: float = 1e-3
    threshold: float = 0.3
    adaption: float = 0.01
    refine: bool = True

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        """The nearest fooling images found, (n, c, h, w); unchanged where the model is wrong already or could not be fooled."""
        found = images.clone()
        zeros, one = torch.zeros_like(images), torch.ones(len(images), device=images.device)
        tau = self.threshold * one
        state = _State(
            Oracle(model, labels),
            images,
            images.clone(),
            torch.inf * one,
            zeros,
            zeros.clone(),
            tau,
        )
        state.drop(state.oracle.fooled(images))
        for step in range(self.steps if len(state) else 0):
            rate = cosine(self.rate, step / max(self.steps - 1, 1))
            gradient, _, fooled = state.oracle.value_and_grad(state.x, _hinge)
            state.keep(fooled, size(state.x - state.clean, "l0"), found)
            state.descend(self._downhill(gradient, state.x - state.clean), rate, step + 1)
            state.tau = (state.tau + self.adaption * rate * torch.where(fooled, 1, -1)).clamp_(0, 1)
            state.threshold()
        if len(state):
            state.keep(state.oracle.fooled(state.x), size(state.x - state.clean, "l0"), found)
        if self.refine:
            take_back(model, images, labels, found, random)
        return found

    def _downhill(self, gradient: Tensor, delta: Tensor) -> Tensor:
        """The gradient of the count minus that of the margin, which is changed in place, with L-inf norm 1 or, where it is, 0."""
        squares = delta.square().sum(1, keepdim=True)
        count = delta * (2 * self.sigma / squares.add_(self.sigma).square_() / squares[0].numel())
        downhill = torch.sub(count, gradient, out=gradient)
        return downhill.div_(column(size(downhill, "linf").clamp_min_(TINY)))


def _hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """The margin as long as the label wins, else 0; beyond the guard, short of which an image does not count as fooled."""
    return (margin(logits, labels) - 2 * GUARD * logits.detach().abs().amax(1)).clamp(max=0)


@dataclass
class _State(Nearest):
    mean: Tensor
    """Adam's first moment"""
    square: Tensor
    """Adam's second moment"""
    tau: Tensor
    """threshold, (n,)"""

    def descend(self, gradient: Tensor, rate: float, age: int) -> None:
        """Adam's step number `age`, inside [0, 1]."""
        self.mean.lerp_(gradient, 1 - FIRST_MOMENT)
        self.square.mul_(SECOND_MOMENT).addcmul_(gradient, gradient, value=1 - SECOND_MOMENT)
        rate *= (1 - SECOND_MOMENT**age) ** 0.5 / (1 - FIRST_MOMENT**age)
        self.x = self.x.addcdiv(self.mean, self.square.sqrt().add_(STABILITY), value=-rate).clamp_(
            0, 1
        )

    def threshold(self) -> None:
        """Take the pixels back that changed by less than tau."""
        small = (self.x - self.clean).abs().amax(1, keepdim=True) < column(self.tau)
        self.x = torch.where(small, self.clean, self.x)
