"""Projected gradient descent (Madry et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from scotoma.attacks.core.active import Active
from scotoma.attacks.core.base import BoundedAttack
from scotoma.attacks.core.losses import cross_entropy
from scotoma.attacks.core.oracle import Loss, Oracle
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class PGD(BoundedAttack):
    """Signed-gradient steps in the ball, from random starts (Madry et al. 2018, section 2.1).

    `start` replaces the first random start.

    Args:
        threat: the ball, L-inf or L2.
        steps: gradient steps from each start.
        step_size: length of a step; None means 2.5 eps / steps, which can cross the ball.
        restarts: random starts (in the L-inf ball, on the L2 sphere); an image that is fooled
            leaves.
        loss: the loss to ascend.

    >>> import torch
    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> PGD("linf:0.2")(nn.Flatten(), images, labels).argmax().item()
    1
    """

    id: ClassVar[str] = "pgd"
    norms: ClassVar = ("linf", "l2")
    steps: int = 40
    step_size: float | None = None
    restarts: int = 1
    loss: Loss = cross_entropy

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        return self.run_from(self._draw(images, random), model, images, labels, random)

    def run_from(
        self, start: Tensor, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> Tensor:
        eps = self.threat.eps
        stride = self.step_size / eps if self.step_size else 2.5 / self.steps
        adversarial = images.clone()
        state = _State(Oracle(model, labels), random, images, start)
        state.drop(state.oracle.fooled(images))
        for restart in range(self.restarts if len(state) else 0):
            if restart:
                state.x = self._draw(state.clean, state.random)
            state.x = self.threat.project(state.x, state.clean)
            for _ in range(self.steps):
                gradient, _, fooled = state.oracle.value_and_grad(state.x, self.loss)
                state.finish(fooled, state.x, adversarial)
                if not len(state):
                    return adversarial
                gradient = gradient[~fooled] if len(gradient) > len(state) else gradient
                state.x = self.threat.project(
                    state.x + self.threat.steepest(gradient).mul_(stride), state.clean
                )
            state.finish(state.oracle.fooled(state.x), state.x, adversarial)
            if not len(state):
                return adversarial
        return adversarial

    def _draw(self, images: Tensor, random: Randomness) -> Tensor:
        return images + self.threat.eps * (2 * random.uniform(images) - 1)


@dataclass
class _State(Active):
    random: Randomness
    clean: Tensor
    x: Tensor
