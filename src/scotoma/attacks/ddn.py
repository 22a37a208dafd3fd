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
from scotoma.attacks.core.oracle import Loss
from scotoma.utils.random import Randomness

FITS = 2
"""Times that the length lost to the box is given to the values that are still free; a few
thousandths of the length remain lost."""
PATIENCE = 10
"""Steps around the whole box after which the sphere of an image that is not fooled shrinks."""
CLOSING = 0.2
"""Share by which it shrinks in a step."""
LEAST = 0.02
"""Share of the box's diameter at which it is reset to the diameter."""


@dataclass(frozen=True)
class DDN(MinimumNormAttack):
    """The smallest L2 perturbation, on a sphere that shrinks after a success and grows otherwise.

    Rony et al. 2019, "Decoupling direction and norm for efficient gradient-based L2 adversarial
    attacks and defenses", Algorithm 1: the gradient turns the perturbation, the sphere sets its
    length. Quantisation is omitted, and there are four changes. A soft margin is ascended, whose
    gradient does not vanish where the model is sure. Pixels at the edge of the box are omitted from
    the gradient where it points outwards. The sphere begins around the whole box and adapts ever
    more slowly: from far away the search finds boundaries behind the flat regions around images of
    adversarially trained models. If nothing around the box fools, the sphere shrinks without a
    success.

    Deterministic.

    Args:
        norm: "l2".
        steps: gradient steps, each one forward and one backward pass.
        alpha: first and last length of a step, joined by a cosine.
        gamma: first and last relative change of the sphere, joined by a cosine; the paper's is
            0.05.
        softness: first and last softness of the margin (`soft_margin`), joined by a cosine.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> DDN("l2")(nn.Flatten(), images, labels).round(decimals=2)
    tensor([[[[0.5000, 0.5000]]]])
    """

    id: ClassVar[str] = "ddn"
    norms: ClassVar = ("l2",)
    steps: int = 100
    alpha: tuple[float, float] = (1.0, 0.01)
    gamma: tuple[float, float] = (0.8, 0.001)
    softness: tuple[float, float] = (0.3, 0.001)

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        adversarial = images.clone()
        diameter = size(torch.ones_like(images), "l2")
        state = Sphere.begin(model, images, labels, eps=diameter, diameter=diameter)

        def loss(progress: float) -> Loss:
            return soft_margin(cosine(self.softness, progress))

        descend(state, self.steps, loss, self.alpha, self.gamma, adversarial)
        return adversarial


def descend(
    state: Sphere,
    steps: int,
    loss: Callable[[float], Loss],
    alpha: tuple[float, float],
    gamma: tuple[float, float],
    adversarial: Tensor,
    until: float = 0.0,
) -> None:
    """Run Algorithm 1 from the state; `adversarial` and `state.best` keep the nearest.

    Args:
        loss: the loss to ascend, from the share of the steps that are done.
        alpha, gamma: as in `DDN`.
        until: an image leaves once its perturbation is smaller than this.
    """
    for step in range(steps if len(state) else 0):
        progress = step / max(steps - 1, 1)
        gradient, _, fooled = state.oracle.value_and_grad(state.x, loss(progress))
        state.keep(fooled, "l2", adversarial)
        state.resize(fooled, cosine(gamma, progress), closing=step >= PATIENCE)
        arrived = state.best < until
        if bool(arrived.any()):
            gradient = gradient[~arrived]
            state.drop(arrived)
            if not len(state):
                return
        state.move(inwards(gradient, state.x), cosine(alpha, progress))
    if len(state):
        state.keep(state.oracle.fooled(state.x), "l2", adversarial)


@dataclass
class Sphere(Nearest):
    """State of the descent."""

    eps: Tensor
    """radius of the sphere, (n,)"""
    diameter: Tensor
    """diameter of the box, (n,)"""

    def resize(self, fooled: Tensor, gamma: float, closing: bool) -> None:
        """Set the radius below the best distance after a success, else larger; `closing` makes it
        smaller for images that are not fooled yet."""
        failed = self.eps * (1 + gamma)
        if closing:
            closer = self.eps * (1 - CLOSING)
            closer = torch.where(closer < LEAST * self.diameter, self.diameter, closer)
            failed = torch.where(self.best.isinf(), closer, failed)
        self.eps = torch.where(fooled, self.eps.minimum(self.best) * (1 - gamma), failed).minimum(
            self.diameter
        )

    def move(self, gradient: Tensor, alpha: float) -> None:
        """Take one step of length alpha, then project to the sphere."""
        length = size(gradient, "l2").clamp_min_(TINY)
        delta = self.x.sub_(self.clean).addcmul_(gradient, column(alpha / length))
        self.x = stretch(delta, self.clean, self.eps).add_(self.clean).clamp_(0, 1)


def stretch(delta: Tensor, clean: Tensor, length: Tensor) -> Tensor:
    """Return the perturbation along `delta` of L2 norm `length` (n,) that keeps `clean` in [0, 1].

    It is s `delta` cut off at the edge of the box; the other values take what is cut off. It is
    shorter if the box leaves too little room, and 0 where `delta` is 0.
    """
    lower, upper = -clean, 1 - clean
    scale = length / size(delta, "l2").clamp_min_(TINY)
    fitted = torch.empty_like(delta)
    for _ in range(FITS):
        scaled = delta * column(scale)
        torch.clamp(scaled, lower, upper, out=fitted)
        free = size(delta * scaled.eq_(fitted), "l2")
        missing = (length.square() - size(fitted, "l2").square()).clamp_min_(0).sqrt_()
        scale = torch.hypot(scale, missing.div_(free.clamp_min_(TINY))).clamp_(max=HUGE)
    return torch.mul(delta, column(scale), out=fitted).clamp_(lower, upper)
