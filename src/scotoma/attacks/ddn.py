"""Decoupled direction and norm (Rony et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.base import MinimumNormAttack
from scotoma.attacks.core.nearest import (
    HUGE,
    TINY,
    Nearest,
    column,
    cosine,
    inwards,
    size,
    soft_margin,
)
from scotoma.attacks.core.oracle import Loss, Oracle
from scotoma.utils.random import Randomness

FITS = 2
"""Times that what the box cuts off is given to the values that are still free; a few thousandths of the length are left."""
PATIENCE = 10
"""Steps around the whole box, after which the sphere of an image that nothing has fooled closes in."""
CLOSING = 0.2
"""By which share a step."""
LEAST = 0.02
"""Share of the box's diameter at which it begins around the box again."""


@dataclass(frozen=True)
class DDN(MinimumNormAttack):
    """The smallest L2 perturbation that fools, on a sphere around each image that shrinks after a success and grows otherwise.

    Rony et al. 2019, "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks and defenses",
    Algorithm 1: the gradient turns the perturbation, the sphere alone says how long it is. Without quantisation, and with
    four changes. The ascent is of a soft margin, whose gradient does not vanish where the model is sure. Pixels at the edge
    of the box do not count in the gradient where it points outwards. And the sphere begins around the whole box, changes fast
    at first and by little in the end: followed from far away, the boundary is found behind the flat regions around the images
    of an adversarially trained model, and the last steps are a fine search. Where nothing around the box fools, the sphere
    closes in without a success, until something does.

    The attack is deterministic.

    Args:
        norm: "l2".
        steps: gradient steps, each one forward and one backward pass.
        alpha: first and last length of a step; a cosine between them.
        gamma: first and last share by which the sphere shrinks and grows; a cosine between them. The paper's is 0.05.
        softness: first and last of the margin (`soft_margin`); a cosine between them.
    """

    id: ClassVar[str] = "ddn"
    norms: ClassVar = ("l2",)
    steps: int = 100
    alpha: tuple[float, float] = (1.0, 0.01)
    gamma: tuple[float, float] = (0.8, 0.001)
    softness: tuple[float, float] = (0.3, 0.001)

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        """The nearest fooling images found, (n, c, h, w); unchanged where the model is wrong already or could not be fooled."""
        found = images.clone()
        infinity = torch.full((len(images),), torch.inf, device=images.device)
        diameter = size(torch.ones_like(images), "l2")
        state = Sphere(Oracle(model, labels), images, images.clone(), infinity, diameter, diameter)
        state.drop(state.oracle.fooled(images))
        descend(
            state,
            self.steps,
            lambda progress: soft_margin(cosine(self.softness, progress)),
            self.alpha,
            self.gamma,
            found,
        )
        return found


def descend(
    state: Sphere,
    steps: int,
    loss: Callable[[float], Loss],
    alpha: tuple[float, float],
    gamma: tuple[float, float],
    found: Tensor,
    until: float = 0.0,
) -> None:
    """Algorithm 1 from where the state is; `found` and `state.best` keep the nearest images that fool.

    Args:
        loss: what is ascended, by the share of the steps that are done.
        alpha, gamma: as in `DDN`.
        until: an image leaves once its perturbation is smaller than this.
    """
    for step in range(steps if len(state) else 0):
        progress = step / max(steps - 1, 1)
        gradient, _, fooled = state.oracle.value_and_grad(state.x, loss(progress))
        state.keep(fooled, size(state.x - state.clean, "l2"), found)
        state.resize(fooled, cosine(gamma, progress), closing=step >= PATIENCE)
        arrived = state.best < until
        if bool(arrived.any()):
            gradient = gradient[~arrived]
            state.drop(arrived)
            if not len(state):
                return
        state.move(inwards(gradient, state.x), cosine(alpha, progress))
    if len(state):
        state.keep(state.oracle.fooled(state.x), size(state.x - state.clean, "l2"), found)


@dataclass
class Sphere(Nearest):
    """The state of the descent."""

    eps: Tensor
    """radius of the sphere, (n,)"""
    diameter: Tensor
    """of the box, (n,)"""

    def resize(self, fooled: Tensor, gamma: float, closing: bool) -> None:
        """Below the best after a success, which the box may have made shorter than the sphere, else outwards. `closing` in on an
        image that nothing has fooled yet."""
        failed = self.eps * (1 + gamma)
        if closing:
            closer = self.eps * (1 - CLOSING)
            closer = torch.where(closer < LEAST * self.diameter, self.diameter, closer)
            failed = torch.where(self.best.isinf(), closer, failed)
        self.eps = torch.where(fooled, self.eps.minimum(self.best) * (1 - gamma), failed).minimum(
            self.diameter
        )

    def move(self, gradient: Tensor, alpha: float) -> None:
        """One step of length alpha, then to the sphere; none where gradient and perturbation are zero."""
        length = size(gradient, "l2").clamp_min_(TINY)
        delta = self.x.sub_(self.clean).addcmul_(gradient, column(alpha / length))
        self.x = stretch(delta, self.clean, self.eps).add_(self.clean).clamp_(0, 1)


def stretch(delta: Tensor, clean: Tensor, length: Tensor) -> Tensor:
    """The perturbation along `delta` whose L2 norm is `length` (n,) and with which `clean` stays inside [0, 1], (n, c, h, w).

    It is s `delta` cut off where the box ends: what some values cannot take, the others take. Shorter where the box leaves too
    little room, 0 where `delta` is.
    """
    lower, upper = -clean, 1 - clean
    scale = length / size(delta, "l2").clamp_min_(TINY)
    fitted = torch.empty_like(delta)
    for _ in range(FITS):
        whole = delta * column(scale)
        torch.clamp(whole, lower, upper, out=fitted)
        free = size(delta * (whole == fitted), "l2")
        missing = (length.square() - size(fitted, "l2").square()).clamp_min_(0).sqrt_()
        scale = torch.hypot(scale, missing.div_(free.clamp_min_(TINY))).clamp_(max=HUGE)
    return torch.mul(delta, column(scale), out=fitted).clamp_(lower, upper)
