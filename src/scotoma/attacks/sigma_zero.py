"""Sigma-zero: few changed pixels by gradient descent on a smooth count (Cina et al. 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.base import MinimumNormAttack
from scotoma.attacks.core.batch import Batch
from scotoma.attacks.core.nearest import (
    FIRST_MOMENT,
    SECOND_MOMENT,
    TINY,
    Descent,
    chosen,
    column,
    cosine,
    hinge,
    over_channels,
    size,
)
from scotoma.attacks.refine import take_back
from scotoma.utils.random import Randomness


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
    pixels are reverted as in `Pointwise`.

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
        tau = torch.full((len(images),), self.threshold, device=images.device)
        state = _State.begin(model, images, labels, tau=tau)
        for step in range(self.steps if len(state) else 0):
            rate = cosine(self.rate, step / max(self.steps - 1, 1))
            gradient, _, fooled = state.oracle.value_and_grad(state.x, hinge)
            state.keep(fooled, "l0", adversarial)
            bias = (1 - SECOND_MOMENT ** (step + 1)) ** 0.5 / (1 - FIRST_MOMENT ** (step + 1))
            state.descend(self._downhill(gradient, state.x - state.clean), rate * bias)
            state.tau = (state.tau + self.adaption * rate * torch.where(fooled, 1, -1)).clamp_(0, 1)
            state.threshold()
        if len(state):
            state.keep(state.oracle.fooled(state.x), "l0", adversarial)
        if self.refine:
            take_back(adversarial, Batch(model, images, labels, random))
        return adversarial

    def _downhill(self, gradient: Tensor, delta: Tensor) -> Tensor:
        """Return the count's gradient minus the margin's, which is changed in place, with L-inf
        norm 1."""
        squares = (delta * delta).sum(1, keepdim=True)
        count = delta * (2 * self.sigma / squares.add_(self.sigma).square_() / squares[0].numel())
        downhill = torch.sub(count, gradient, out=gradient)
        return downhill.div_(column(size(downhill, "linf").clamp_min_(TINY)))


@dataclass
class _State(Descent):
    tau: Tensor
    """threshold, (n,)"""

    def threshold(self) -> None:
        """Revert the pixels that changed by less than tau."""
        large = over_channels((self.x - self.clean).abs_()).ge_(column(self.tau))
        self.x = chosen(large, self.x, self.clean)
