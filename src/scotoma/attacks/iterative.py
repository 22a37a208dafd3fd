"""Iterated single steps from the image itself: basic iteration and momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.active import Active
from scotoma.attacks.core.base import BoundedAttack, from_zero
from scotoma.attacks.core.losses import cross_entropy, towards
from scotoma.attacks.core.nearest import column, size
from scotoma.attacks.core.oracle import Loss, Oracle
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class IFGSM(BoundedAttack):
    """Signed-gradient steps in the ball, from the image (Kurakin et al. 2017, section 2).

    Args:
        threat: the ball, L-inf or L2.
        steps: gradient steps.
        step_size: length of a step; None means eps / steps, the shortest that reaches the edge.
        loss: the loss to ascend.
        until_fooled: whether an image leaves once it is fooled. Otherwise all steps are taken and
            the last point is returned, fooling or not: far across the boundary it transfers better.

    >>> import torch
    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> IFGSM("linf:0.2")(nn.Flatten(), images, labels)  # six steps of 0.02
    tensor([[[[0.4800, 0.5200]]]])
    """

    id: ClassVar[str] = "ifgsm"
    norms: ClassVar = ("linf", "l2")
    steps: int = 10
    step_size: float | None = None
    loss: Loss = cross_entropy
    until_fooled: bool = True

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        return self.run_from(images, model, images, labels, random)

    def run_from(
        self, start: Tensor, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> Tensor:
        length = (self.step_size or self.threat.eps / self.steps) / self.threat.eps
        adversarial = images.clone()
        oracle = Oracle(model, labels)
        start = self.threat.project(start, images)
        state = _State(oracle, images, start, torch.zeros_like(images), self._aim(oracle, images))
        for _ in range(self.steps):
            gradient, _, fooled = state.oracle.value_and_grad(
                state.x, lambda logits, _: self.loss(logits, state.aim)
            )
            state.direction = self._direction(state.direction, gradient)
            if self.until_fooled:
                state.finish(fooled, state.x, adversarial)
                if not len(state):
                    return adversarial
            state.x = self.threat.project(
                state.x + length * self.threat.steepest(state.direction), state.clean
            )
        if not self.until_fooled:
            return state.x
        state.finish(state.oracle.fooled(state.x), state.x, adversarial)
        return adversarial

    def _aim(self, oracle: Oracle, images: Tensor) -> Tensor:
        """Return the class that the loss refers to, int64 (n,)."""
        return oracle.labels

    def _direction(self, previous: Tensor, gradient: Tensor) -> Tensor:
        """Return the direction of the next step."""
        return gradient


@dataclass(frozen=True)
class IterLL(IFGSM):
    """`IFGSM` towards the class least likely on the clean image (Kurakin et al. 2017, section 2).

    Args:
        threat, steps, step_size, until_fooled: as in `IFGSM`.
        loss: loss of the logits and the least likely class.

    >>> import torch
    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> IterLL("linf:0.2")(nn.Flatten(), images, labels)
    tensor([[[[0.4800, 0.5200]]]])
    """

    id: ClassVar[str] = "iter-ll"
    loss: Loss = towards

    def _aim(self, oracle: Oracle, images: Tensor) -> Tensor:
        return oracle.logits(images).argmin(1)


@dataclass(frozen=True)
class MIM(IFGSM):
    """Steps along a momentum of gradients, which transfer better (Dong et al. 2018, Algorithm 1).

    Args:
        threat, steps, step_size, loss, until_fooled: as in `IFGSM`.
        decay: mu, the share of the last direction that is kept.

    >>> import torch
    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> MIM("linf:0.2", until_fooled=False)(nn.Flatten(), images, labels)
    tensor([[[[0.4000, 0.6000]]]])
    """

    id: ClassVar[str] = "mim"
    decay: float = from_zero(1.0)

    def _direction(self, previous: Tensor, gradient: Tensor) -> Tensor:
        return self.decay * previous + gradient / column(size(gradient, "l1").clamp_min_(1e-30))


@dataclass
class _State(Active):
    clean: Tensor
    x: Tensor
    direction: Tensor
    """direction of the last step"""
    aim: Tensor
    """class that the loss refers to, (n,)"""
