"""Fast minimum-norm attack (Pintor et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.base import MinimumNormAttack
from scotoma.attacks.core.nearest import TINY, Nearest, column, cosine, inwards, size, soft_margin
from scotoma.attacks.core.oracle import Oracle
from scotoma.utils.random import Randomness

DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}
"""The norm of the gradient that says how fast the margin can grow with the distance in each norm."""
LEAST = 1e-6
"""Radius of a ball: on the boundary itself the estimate is 0, and would stay so."""
HALVINGS = 12
"""Of the interval in which the L1 projection's threshold lies; in what is left the norm is all but linear."""
NEWTON = 2
"""Steps that then meet it."""


@dataclass(frozen=True)
class FMN(MinimumNormAttack):
    """The smallest L-inf perturbation that fools, by steps along the margin's gradient inside a ball that adapts.

    Pintor et al. 2021, "Fast minimum-norm adversarial attacks through adaptive norm constraints", Algorithm 1, with four
    changes. It comes in from far away, with a ball that closes in fast, and ascends a soft margin: that finds nearer images than
    the paper's start at the image, above all behind the flat regions around the images of adversarially trained models. Pixels
    at the edge of the box do not count in the gradient where it points outwards: on images of mostly black and white pixels half
    of it does, and no step is spent there. And where it begins at the image, the estimated distance is exceeded by gamma before
    the first success: inside the box it is a lower bound, which is approached but never reached.

    The attack is deterministic.

    Args:
        norm: "linf".
        steps: gradient steps, each one forward and one backward pass.
        alpha: first and last length of a step, in L2; a cosine between them.
        gamma: first and last share by which the ball shrinks and grows; a cosine between them. The paper's is 0.05 to 0.001.
        softness: first and last of the margin that is ascended (`soft_margin`); a cosine between them. The paper's is 0.
        far: the first step goes to the corner of the box to which the gradient points, and the ball comes in from there. The
            paper begins at the image.
    """

    id: ClassVar[str] = "fmn-linf"
    norms: ClassVar = ("linf",)
    steps: int = 100
    alpha: tuple[float, float] = (1.0, 0.01)
    gamma: tuple[float, float] = (0.2, 0.001)
    softness: tuple[float, float] = (0.2, 0.001)
    far: bool = True

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        """The nearest fooling images found, (n, c, h, w); unchanged where the model is wrong already or could not be fooled."""
        norm = self.norm
        found = images.clone()
        infinity = torch.full((len(images),), torch.inf, device=images.device)
        diameter = size(torch.ones_like(images), norm)
        state = _State(Oracle(model, labels), images, images.clone(), infinity, diameter, diameter)
        state.drop(state.oracle.fooled(images))
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
            distance = size(state.x - state.clean, norm)
            state.keep(fooled, distance, found)
            steepness = size(gradient, DUAL[norm]).clamp_min_(TINY)
            state.resize(state.eps if self.far else distance - loss / steepness, fooled, gamma)
            state.move(gradient, alpha, norm)
        if len(state):
            state.keep(state.oracle.fooled(state.x), size(state.x - state.clean, norm), found)
        return found


@dataclass(frozen=True)
class FMNL2(FMN):
    """The smallest L2 perturbation, with a ball that closes in faster.

    Args:
        norm: "l2".
        steps, alpha, gamma, softness, far: as in `FMN`.
    """

    id: ClassVar[str] = "fmn-l2"
    norms: ClassVar = ("l2",)
    gamma: tuple[float, float] = (0.5, 0.001)


@dataclass(frozen=True)
class FMNL1(FMNL2):
    """The smallest L1 perturbation, in the same way.

    Args:
        norm: "l1".
        steps, alpha, gamma, softness, far: as in `FMN`.
    """

    id: ClassVar[str] = "fmn-l1"
    norms: ClassVar = ("l1",)


@dataclass
class _State(Nearest):
    eps: Tensor
    """radius of the ball, (n,)"""
    diameter: Tensor
    """of the box, (n,)"""

    def resize(self, boundary: Tensor, fooled: Tensor, gamma: float) -> None:
        """Before the first success a little beyond `boundary`, then below the best or outwards again."""
        failed = torch.where(self.best.isfinite(), self.eps, boundary) * (1 + gamma)
        self.eps = (
            torch.where(fooled, self.eps.minimum(self.best) * (1 - gamma), failed)
            .clamp_min_(LEAST)
            .minimum(self.diameter)
        )

    def move(self, gradient: Tensor, alpha: float, norm: str) -> None:
        """One step of L2 length alpha, projected on ball and box; none where the gradient is zero."""
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
    """The nearest perturbation of L1 norm at most `radius` (n,) with which `clean` stays inside [0, 1], (n, c, h, w).

    Every value gives up the same amount, as on the ball alone (Duchi et al. 2008), and then what the box cuts off; the norm
    falls with that amount, so bisection comes near it, and Newton's steps meet it: the norm is linear in it between the amounts
    at which one more value ends.
    """
    sizes = delta.abs().flatten(1)
    room = torch.where(delta > 0, 1 - clean, clean).flatten(1)
    zero, kept, limit = torch.zeros_like(sizes), torch.empty_like(sizes), radius[:, None]

    def excess(amount: Tensor) -> Tensor:
        """Of the norm over the radius, (n, 1), where every value gives up the amount (n, 1)."""
        return (
            torch.sub(sizes, amount, out=kept).clamp_(zero, room).sum(1, keepdim=True).sub_(limit)
        )

    half = sizes.amax(1, keepdim=True) / 2
    amount = half.clone()
    for _ in range(HALVINGS):
        half /= 2
        amount.addcmul_(excess(amount).sign_(), half)
    low, high = (amount - half).clamp_min_(0), amount + half
    for _ in range(NEWTON):
        over = excess(amount)
        falling = ((kept > 0) & (kept < room)).sum(1, keepdim=True).clamp_min_(1)
        amount.add_(over.div_(falling)).clamp_(low, high)
    return torch.sub(sizes, amount, out=kept).clamp_(zero, room).view_as(delta).copysign_(delta)
