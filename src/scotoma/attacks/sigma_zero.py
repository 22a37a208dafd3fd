"""Sigma-zero: few changed pixels by gradient descent on a smooth count (Cina et al. 2025)."""

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
    """The fewest changed pixels, by descent on the margin and a smooth count, with a threshold.

    Cina et al. 2025, "Sigma-zero: gradient-based optimization of l0-norm adversarial examples",
    Algorithm 1: Adam descends the margin, cut off where the model is wrong, plus the mean over the
    pixels of s / (s + sigma), s a pixel's squared change, with gradients of L-inf norm 1. After
    each step pixels that changed by less than tau are reverted; tau grows when the model is fooled
    and falls otherwise. Here a pixel counts once: s is summed over its channels, and the largest
    change of a channel is compared with tau.

    At the end each changed pixel is moved as far as possible where the model stays fooled, and
    pixels are reverted as in `Pointwise`. Images that it does not fool are returned unchanged.

    Args:
        norm: "l0".
        steps: descent steps, each one forward and one backward pass.
        rate: first and last length of Adam's steps, joined by a cosine.
        sigma: smoothness of the count.
        threshold: first tau.
        adaption: change of tau in a step, in units of the rate.
        refine: whether to revert pixels at the end.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> adversarial = SigmaZero("l0", steps=30)(nn.Flatten(), images, labels)
    >>> int((adversarial != images).sum())
    1
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
        adversarial = images.clone()
        zeros, one = torch.zeros_like(images), torch.ones(len(images), device=images.device)
        tau = self.threshold * one
        oracle, far = Oracle(model, labels), torch.inf * one
        state = _State(oracle, images, images.clone(), far, zeros, zeros.clone(), tau)
        state.drop(state.oracle.fooled(images))
        for step in range(self.steps if len(state) else 0):
            rate = cosine(self.rate, step / max(self.steps - 1, 1))
            gradient, _, fooled = state.oracle.value_and_grad(state.x, _hinge)
            state.keep(fooled, size(state.x - state.clean, "l0"), adversarial)
            state.descend(self._downhill(gradient, state.x - state.clean), rate, step + 1)
            state.tau = (state.tau + self.adaption * rate * torch.where(fooled, 1, -1)).clamp_(0, 1)
            state.threshold()
        if len(state):
            state.keep(state.oracle.fooled(state.x), size(state.x - state.clean, "l0"), adversarial)
        if self.refine:
            take_back(model, images, labels, adversarial, random)
        return adversarial

    def _downhill(self, gradient: Tensor, delta: Tensor) -> Tensor:
        """Return the count's gradient minus the margin's, which is changed in place, with L-inf
        norm 1."""
        squares = delta.square().sum(1, keepdim=True)
        count = delta * (2 * self.sigma / squares.add_(self.sigma).square_() / squares[0].numel())
        downhill = torch.sub(count, gradient, out=gradient)
        return downhill.div_(column(size(downhill, "linf").clamp_min_(TINY)))


def _hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the margin while the label wins, else 0, with twice the guard of `fooled`."""
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
        """Take Adam's step number `age`, inside [0, 1]."""
        self.mean.lerp_(gradient, 1 - FIRST_MOMENT)
        self.square.mul_(SECOND_MOMENT).addcmul_(gradient, gradient, value=1 - SECOND_MOMENT)
        rate *= (1 - SECOND_MOMENT**age) ** 0.5 / (1 - FIRST_MOMENT**age)
        self.x = self.x.addcdiv(self.mean, self.square.sqrt().add_(STABILITY), value=-rate).clamp_(
            0, 1
        )

    def threshold(self) -> None:
        """Revert the pixels that changed by less than tau."""
        small = (self.x - self.clean).abs().amax(1, keepdim=True) < column(self.tau)
        self.x = torch.where(small, self.clean, self.x)
