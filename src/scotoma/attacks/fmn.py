"""Fast minimum-norm attack (Pintor et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.base import MinimumNormAttack
from scotoma.attacks.core.nearest import (
    DUAL,
    TINY,
    Nearest,
    column,
    cosine,
    inwards,
    size,
    soft_margin,
)
from scotoma.utils.random import Randomness

LEAST = 1e-6
"""Least radius of a ball; on the boundary itself the estimate would be and stay 0."""
HALVINGS = 12
"""Bisections for the threshold of the L1 projection, after which the norm is nearly linear."""
NEWTON = 2
"""Newton steps after the bisections."""


@dataclass(frozen=True)
class FMN(MinimumNormAttack):
    """The smallest L-inf perturbation, by steps along the margin's gradient in an adaptive ball.

    Pintor et al. 2021, "Fast minimum-norm adversarial attacks through adaptive norm constraints",
    Algorithm 1, with four changes. It starts far away with a ball that shrinks fast, and it ascends
    a soft margin: this finds nearer images than the paper's start at the image, above all behind
    flat regions around images of adversarially trained models. Pixels at the edge of the box are
    omitted from the gradient where it points outwards. If it begins at the image (`far=False`), the
    estimated distance is exceeded by gamma before the first success, since inside the box it is a
    lower bound.

    Deterministic.

    Args:
        norm: "linf".
        steps: gradient steps, each one forward and one backward pass.
        alpha: first and last L2 length of a step, joined by a cosine.
        gamma: first and last relative change of the ball, joined by a cosine; the paper's is 0.05
            to 0.001.
        softness: first and last softness of the margin (`soft_margin`), joined by a cosine; the
            paper's is 0.
        far: whether the first step goes to the corner of the box in the gradient's direction; the
            paper begins at the image.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> FMN("linf")(nn.Flatten(), images, labels).round(decimals=2)
    tensor([[[[0.5000, 0.5000]]]])
    """

    id: ClassVar[str] = "fmn-linf"
    norms: ClassVar = ("linf",)
    steps: int = 100
    alpha: tuple[float, float] = (1.0, 0.01)
    gamma: tuple[float, float] = (0.2, 0.001)
    softness: tuple[float, float] = (0.2, 0.001)
    far: bool = True

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        norm = self.norm
        adversarial = images.clone()
        diameter = size(torch.ones_like(images), norm)
        state = _State.begin(model, images, labels, eps=diameter, diameter=diameter)
        for step in range(self.steps if len(state) else 0):
            progress = step / max(self.steps - 1, 1)
            alpha, gamma, softness = (
                cosine(ends, progress) for ends in (self.alpha, self.gamma, self.softness)
            )
            gradient, loss, fooled = state.oracle.value_and_grad(state.x, soft_margin(softness))
            if self.far and not step:
                state.x.add_(gradient.sign_()).clamp_(0, 1)
                continue
            inwards(gradient, state.x)
            distance = state.keep(fooled, norm, adversarial)
            steepness = size(gradient, DUAL[norm]).clamp_min_(TINY)
            state.resize(state.eps if self.far else distance - loss / steepness, fooled, gamma)
            state.move(gradient, alpha, norm)
        if len(state):
            state.keep(state.oracle.fooled(state.x), norm, adversarial)
        return adversarial


@dataclass(frozen=True)
class FMNL2(FMN):
    """The smallest L2 perturbation, as `FMN` with a ball that shrinks faster.

    >>> FMNL2("l2").gamma
    (0.5, 0.001)
    """

    id: ClassVar[str] = "fmn-l2"
    norms: ClassVar = ("l2",)
    gamma: tuple[float, float] = (0.5, 0.001)


@dataclass(frozen=True)
class FMNL1(FMNL2):
    """The smallest L1 perturbation, as `FMNL2`.

    >>> FMNL1("l1").norm
    'l1'
    """

    id: ClassVar[str] = "fmn-l1"
    norms: ClassVar = ("l1",)


@dataclass
class _State(Nearest):
    eps: Tensor
    """radius of the ball, (n,)"""
    diameter: Tensor
    """diameter of the box, (n,)"""

    def resize(self, boundary: Tensor, fooled: Tensor, gamma: float) -> None:
        """Set the radius a little beyond `boundary` before the first success, then below the best
        distance or larger again."""
        failed = torch.where(self.best.isfinite(), self.eps, boundary) * (1 + gamma)
        eps = torch.where(fooled, self.eps.minimum(self.best) * (1 - gamma), failed)
        self.eps = eps.clamp_min_(LEAST).minimum(self.diameter)

    def move(self, gradient: Tensor, alpha: float, norm: str) -> None:
        """Take one step of L2 length alpha, then project on ball and box."""
        length = size(gradient, "l2").clamp_min_(TINY)
        x = self.x.addcmul_(gradient, column(alpha / length))
        eps = column(self.eps)
        if norm == "linf":
            x = x.clamp_(self.clean - eps, self.clean + eps)
        elif norm == "l2":
            delta = x - self.clean
            x = delta.mul_((eps / column(size(delta, norm)).clamp_min(TINY)).clamp_(max=1)).add_(
                self.clean
            )
        else:
            x = project_l1(x - self.clean, self.clean, self.eps).add_(self.clean)
        self.x = x.clamp_(0, 1)


def project_l1(delta: Tensor, clean: Tensor, radius: Tensor) -> Tensor:
    """Return the nearest perturbation with `clean` in [0, 1] and L1 norm at most `radius` (n,).

    Every value is reduced by one amount, as on the ball alone (Duchi et al. 2008), and by what the
    box cuts off. The norm falls piecewise linearly with the amount: bisection comes near, and
    Newton's steps meet it.
    """
    sizes = delta.abs().flatten(1)
    room = delta.clone().gt_(0).sub_(clean).abs_().flatten(1)  # to 1 where it rises, else to 0
    zero, cut, limit = torch.zeros_like(sizes), torch.empty_like(sizes), radius[:, None]

    def excess(amount: Tensor) -> Tensor:
        """Return the norm minus the radius if every value is reduced by `amount`; both (n, 1)."""
        return torch.sub(sizes, amount, out=cut).clamp_(zero, room).sum(1, keepdim=True).sub_(limit)

    half = sizes.amax(1, keepdim=True) / 2
    amount = half.clone()
    for _ in range(HALVINGS):
        half /= 2
        amount.addcmul_(excess(amount).sign_(), half)
    low, high = (amount - half).clamp_min_(0), amount + half
    for _ in range(NEWTON):
        over = excess(amount)
        inside = torch.sub(room, cut).sign_().mul_(cut.sign_())
        falling = inside.sum(1, keepdim=True).clamp_min_(1)
        amount.add_(over.div_(falling)).clamp_(low, high)
    return torch.sub(sizes, amount, out=cut).clamp_(zero, room).view_as(delta).copysign_(delta)
