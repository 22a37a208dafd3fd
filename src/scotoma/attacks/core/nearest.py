"""What minimum-norm attacks share: distances, the nearest fooling image, margins to ascend."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from scotoma.attacks.core.active import Active
from scotoma.attacks.core.losses import GUARD, margin, wrong_logits
from scotoma.attacks.core.oracle import Loss, Oracle
from scotoma.utils.logits import FAR, magnitude

TINY = torch.finfo(torch.float32).tiny
HUGE = 1e30
DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}
"""Norm of the gradient that gives the slope of the margin per distance in each norm."""
FIRST_MOMENT, SECOND_MOMENT, STABILITY = 0.9, 0.999, 1e-8
"""Adam's beta1, beta2 and epsilon, as the authors of attacks have them."""


def column(numbers: Tensor) -> Tensor:
    """Reshape (n,) to (n, 1, 1, 1)."""
    return numbers[:, None, None, None]


def cosine(ends: tuple[float, float], progress: float) -> float:
    """Return the value between `ends` on half a cosine, for `progress` from 0 to 1."""
    first, last = ends
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2


def chosen(mask: Tensor, images: Tensor, others: Tensor) -> Tensor:
    """Return `images` where the mask is 1 and `others` where it is 0, exactly.

    The mask holds numbers, since selection by booleans takes some 20 times as long on a CPU.

    >>> chosen(torch.tensor([1.0, 0.0]), torch.tensor([0.1, 0.2]), torch.tensor([0.3, 0.4]))
    tensor([0.1000, 0.4000])
    """
    return torch.lerp(others, images, mask)


def over_channels(values: Tensor) -> Tensor:
    """Return the largest value over the channels of each pixel, (n, 1, h, w)."""
    return values if values.shape[1] == 1 else values.amax(1, keepdim=True)


def size(delta: Tensor, norm: str) -> Tensor:
    """Return the size of each perturbation (n, c, h, w), (n,); L0 counts pixels, not values."""
    if norm == "l0":
        return over_channels(delta.sign().abs_()).flatten(1).sum(1)
    flat = delta.flatten(1)
    if norm == "l2":
        return torch.linalg.vector_norm(flat, dim=1)
    return flat.abs().amax(1) if norm == "linf" else flat.abs().sum(1)


def inwards(gradient: Tensor, x: Tensor) -> Tensor:
    """Set the gradient to 0, in place, at pixels on the box's edge where it points outwards."""
    return gradient.clamp_(x * -HUGE, torch.rsub(x, HUGE, alpha=HUGE))


def bisected(
    place: Callable[[Tensor], Tensor],
    fools: Callable[[Tensor], Tensor],
    x: Tensor,
    ends: tuple[Tensor, Tensor],
    halvings: int,
) -> tuple[Tensor, Tensor]:
    """Return the nearest fooling images that bisection finds on paths, and their reach, (n,).

    Args:
        place: from reach, (n,), to the points of the paths.
        fools: from points to which of them fool, bool (n,).
        x: the points at the far ends, all fooling; (n, c, h, w).
        ends: reach that does not fool and reach of `x`; (n,) each.
        halvings: bisections, each a forward pass.
    """
    low, high = ends
    for _ in range(halvings if len(x) else 0):
        middle = (low + high) / 2
        probe = place(middle)
        fooling = fools(probe)
        low, high = torch.where(fooling, low, middle), torch.where(fooling, middle, high)
        x = chosen(column(fooling.to(x)), probe, x)
    return x, high


def shortened(oracle: Oracle, clean: Tensor, far: Tensor, halvings: int) -> Tensor:
    """Return the nearest fooling images that bisection finds between `clean` and fooling `far`."""
    ends = far.new_zeros(len(far)), far.new_ones(len(far))

    def path(reach: Tensor) -> Tensor:
        return torch.lerp(clean, far, column(reach))

    return bisected(path, oracle.fooled, far, ends, halvings)[0]


def guarded_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the margin less the guard, (n,), which is positive where `fooled` holds."""
    return margin(logits, labels) - GUARD * magnitude(logits.detach())


def hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the margin while the label wins, else 0, with twice the guard of `fooled`, (n,)."""
    return (margin(logits, labels) - 2 * GUARD * magnitude(logits.detach())).clamp(max=0)


def soft_margin(softness: float) -> Loss:
    """Return the guarded margin as a loss with a soft maximum over the wrong classes.

    The margin's gradient points to the leading class, even if another is nearer. The soft maximum,
    T log mean exp(z_j / T) over the wrong classes j, weighs them all and is never above the
    maximum. T is `softness` times the standard deviation of the image's logits, so that the loss is
    independent of their scale and shift; 0 is the margin itself.
    """

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        wrong = wrong_logits(logits, labels)
        lead = wrong.detach().amax(1, keepdim=True)
        fixed = logits.detach()
        size = magnitude(fixed)
        level = fixed.maximum(-FAR * size[:, None])  # without classes that are masked
        heat = (softness * level.std(1, keepdim=True, correction=0)).clamp_min(TINY)
        soft = lead + heat * (
            ((wrong - lead) / heat).logsumexp(1, keepdim=True) - math.log(logits.shape[1] - 1)
        )
        return (soft - logits.gather(1, labels[:, None])).squeeze(1) - GUARD * size

    def two(logits: Tensor, labels: Tensor) -> Tensor:
        return loss(logits, labels) if logits.shape[1] > 2 else guarded_margin(logits, labels)

    return two if softness else guarded_margin


@dataclass
class Nearest(Active):
    """State of a minimum-norm attack."""

    clean: Tensor
    x: Tensor
    best: Tensor
    """smallest fooling distance, (n,), infinite before the first"""

    @classmethod
    def at(cls, oracle: Oracle, images: Tensor, **more: Any) -> Self:
        """Return the state before the first step; `more` are further fields."""
        nothing = torch.full((len(images),), torch.inf, device=images.device)
        return cls(oracle, images, images.clone(), nothing, **more)

    @classmethod
    def begin(cls, model: nn.Module, images: Tensor, labels: Tensor, **more: Any) -> Self:
        """Return the state `at` the images that the model classifies correctly."""
        state = cls.at(Oracle(model, labels), images, **more)
        state.drop(state.oracle.fooled(images))
        return state

    def keep(self, fooled: Tensor, norm: str, adversarial: Tensor) -> Tensor:
        """Write the images that fool from nearer than before into `adversarial`.

        Returns the distances of `x`, (n,).
        """
        distance = size(self.x - self.clean, norm)
        better = (fooled & (distance < self.best)).nonzero().squeeze(1)
        if len(better):
            adversarial.index_copy_(0, self.rows[better], self.x.index_select(0, better))
            self.best = self.best.index_copy(0, better, distance[better])
        return distance


@dataclass
class Descent(Nearest):
    """State of a minimum-norm attack that descends with Adam."""

    mean: Tensor
    """first moment"""
    square: Tensor
    """second moment"""

    @classmethod
    def at(cls, oracle: Oracle, images: Tensor, **more: Any) -> Self:
        moments = {name: torch.zeros_like(images) for name in ("mean", "square")}
        return super().at(oracle, images, **moments, **more)

    def descend(self, gradient: Tensor, rate: Tensor | float) -> None:
        """Take one step inside [0, 1]; `rate` corrects the moments for their start at 0."""
        self.mean.lerp_(gradient, 1 - FIRST_MOMENT)
        self.square.mul_(SECOND_MOMENT).addcmul_(gradient, gradient, value=1 - SECOND_MOMENT)
        self.x.addcdiv_(rate * self.mean, self.square.sqrt().add_(STABILITY), value=-1).clamp_(0, 1)
