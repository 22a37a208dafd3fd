"""Latent descent to the best reconstruction by a wrong class (Schott et al. 2019, section 4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.active import Active
from scotoma.attacks.core.base import MinimumNormAttack, from_zero
from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import bisected, column
from scotoma.attacks.core.oracle import Oracle
from scotoma.models.layers import Binarise
from scotoma.models.synthesis import AnalysisBySynthesis, Synthesis, inside
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class LatentDescent(MinimumNormAttack):
    """Moves the image to the reconstruction of the most likely wrong class, until it fools.

    The attack of Schott et al. 2019 on their own model. At each step the goal is reconstructed anew
    from the last point (the authors' code). The first fooling point is moved back by bisection. If
    the model binarises its input, only pixels that must cross the threshold move, and just across
    it.

    Deterministic.

    Args:
        norm: "l2", "linf" or "l1", in which the result is measured; the search is the same.
        steps: steps from the image to the reconstruction, each one forward pass.
        halvings: bisections of the last step.

    Raises:
        InputError: (when called) the model reconstructs nothing.

    >>> LatentDescent("l2", steps=20).halvings
    10
    """

    id: ClassVar[str] = "latent-descent"
    norms: ClassVar = ("l2", "linf", "l1")
    gradients: ClassVar = False
    steps: int = 50
    halvings: int = from_zero(10)

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        synthesiser = self._synthesiser(model)
        threshold = (
            synthesiser.binarise.threshold if isinstance(synthesiser.binarise, Binarise) else None
        )
        adversarial, ends = images.clone(), images.clone()
        reach = images.new_zeros(len(images))
        with _watched(synthesiser) as syntheses:
            state = _State(Oracle(model, labels), images, images)
            self._evaluate(state, images, syntheses)
            for step in range(1, self.steps + 1):
                if not len(state):
                    break
                share = column(images.new_full((len(state),), step / self.steps))
                x = _place(state.clean, state.goal, share, threshold)
                rows, goal = state.rows, state.goal
                won = self._evaluate(state, x, syntheses)
                adversarial[rows[won]], ends[rows[won]] = x[won], goal[won]
                reach[rows[won]] = step / self.steps
        rows = (reach > 0).nonzero().squeeze(1)
        oracle, clean, goal = Oracle(model, labels).select(rows), images[rows], ends[rows]
        last_step = reach[rows] - 1 / self.steps, reach[rows]

        def path(reach: Tensor) -> Tensor:
            return _place(clean, goal, column(reach), threshold)

        first = adversarial[rows]
        adversarial[rows], _ = bisected(path, oracle.fooled, first, last_step, self.halvings)
        return adversarial

    @staticmethod
    def _synthesiser(model: nn.Module) -> AnalysisBySynthesis:
        synthesiser = inside(model)
        if synthesiser is None:
            raise InputError(
                "attack latent-descent needs a model that reconstructs images: arch=abs, binary-abs"
            )
        return synthesiser

    @staticmethod
    def _evaluate(state: _State, x: Tensor, syntheses: list[Synthesis]) -> Tensor:
        """Return which of `x` fool, bool; these leave, the others get a new goal."""
        syntheses.clear()
        won = fooled(state.oracle.logits(x), state.oracle.labels)
        losses, _, reconstructions = (torch.cat(parts) for parts in zip(*syntheses, strict=True))
        nearest_wrong = losses.scatter(1, state.oracle.labels[:, None], torch.inf).argmin(1)
        state.goal = reconstructions[torch.arange(len(x), device=x.device), nearest_wrong]
        state.drop(won)
        return won


@dataclass
class _State(Active):
    clean: Tensor
    goal: Tensor


def _place(clean: Tensor, goal: Tensor, reach: Tensor, threshold: float | None) -> Tensor:
    """Return the point at `reach` towards the goal; for a binarised input the nearest equivalent
    one."""
    x = clean.lerp(goal, reach).clamp_(0, 1)
    if threshold is None:
        return x
    above = x >= threshold
    below = torch.nextafter(clean.new_tensor(threshold), clean.new_tensor(0.0))
    return torch.where(above == (clean >= threshold), clean, torch.where(above, threshold, below))


@contextmanager
def _watched(synthesiser: AnalysisBySynthesis) -> Iterator[list[Synthesis]]:
    """Record the reconstructions behind the last logits."""
    syntheses: list[Synthesis] = []

    def see(_module: nn.Module, _inputs: Any, synthesis: Any) -> None:
        syntheses.append(synthesis)

    handle = synthesiser.explanation.register_forward_hook(see)
    try:
        yield syntheses
    finally:
        handle.remove()
