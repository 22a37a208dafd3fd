"""Gradients for the attacks of the norms probe: the model's own unless they are zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scotoma.attacks.core.gradient import declared_gradient, with_gradient
from scotoma.attacks.core.losses import margin
from scotoma.attacks.core.oracle import Oracle
from scotoma.attacks.estimated import Estimated
from scotoma.claim import Claim
from scotoma.execution.run import Attack, Measurement, Run
from scotoma.models.black_box import is_black_box
from scotoma.utils.random import Randomness

LOOKED = 16
"""Images whose gradients are checked if the model declares none."""
DIRECTIONS = 20
"""Random directions of an estimated gradient; all directions would take too long."""
PASSES = 2 * DIRECTIONS + 1
"""Forward passes of a step whose gradient is estimated."""


@dataclass(frozen=True)
class Gradients:
    """Gradients of gradient-based attacks.

    Args:
        name: "exact", "bpda" or "estimate" (`attacks.core.gradient.with_gradient`).
        why: the reason as the beginning of a sentence, for gradients that are not exact.
    """

    name: str
    why: str = ""

    def applied_to(self, attack: Attack) -> Attack:
        """Return the attack with these gradients."""
        if self.name == "estimate":
            return Estimated(attack, directions=DIRECTIONS)
        return with_gradient(attack, self.name)

    def steps(self, steps: int | None, queries: int) -> int | None:
        """Return the most steps of an attack: `steps`, or as many estimates as `queries` allow."""
        if steps is None and self.name == "estimate":
            return max(1, queries // PASSES)
        return steps


def choose_gradients(claim: Claim, run: Run) -> Gradients:
    """Choose the gradients that the model declares, or the first kind that is not zero on images.

    The kinds are exact, BPDA and differences of logits, in this order.
    """
    declared = declared_gradient(claim.model.module)
    if is_black_box(claim.model.module):
        return Gradients(declared, "The model is a black box without gradients")
    if declared != "exact":
        why = "The model declares that its logits have no useful gradient by the image"
        return Gradients(declared, why)
    sample = run.subset(run.indices[:LOOKED])

    def nonzero(name: str) -> list[bool]:
        """Return whether the gradient is not zero, for each correctly classified image."""
        config = {"directions": DIRECTIONS}
        table = sample.map_images(f"{name} gradient", config, _moves(Gradients(name)))
        return table["moves"].to_list() if len(table) else []

    exact = nonzero("exact")
    if any(exact) or not exact:
        return Gradients("exact")
    why = (
        f"The gradient of the model's margin by the image is zero for all {len(exact)} images "
        "checked"
    )
    return Gradients(
        next((name for name in ("bpda", "estimate") if any(nonzero(name))), "exact"), why
    )


def _moves(gradients: Gradients) -> Measurement:
    """Return a measurement of whether the gradient of the margin is not zero, bool (n,)."""

    def look(
        model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> dict[str, Tensor]:
        slopes: list[Tensor] = []

        def ask(
            model: nn.Module, images: Tensor, labels: Tensor, generator: Randomness | None = None
        ) -> Tensor:
            slopes.append(Oracle(model, labels).value_and_grad(images, margin).gradient)
            return images

        gradients.applied_to(ask)(model, images, labels, generator=random)
        return {"moves": (torch.cat(slopes) != 0).flatten(1).any(1)}

    return look
