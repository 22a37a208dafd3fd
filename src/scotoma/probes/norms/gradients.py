"""Which gradients the norms probe gives to attacks: the model's own where they lead anywhere, else what stands in for them."""

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
from scotoma.utils.random import Randomness

LOOKED = 16
"""Images at which the gradient is looked at, where the model says nothing."""
DIRECTIONS = 20
"""Random directions of an estimated gradient: along every value of an image is too dear for a whole audit."""
PASSES = 2 * DIRECTIONS + 1
"""Forward passes of a step whose gradient is estimated."""


@dataclass(frozen=True)
class Gradients:
    """What attacks that follow gradients are given: "exact", "bpda" or "estimate" (`attacks.gradient`), and why, as the beginning
    of a sentence; empty where nothing is to be said."""

    name: str
    why: str = ""

    def given_to(self, attack: Attack) -> Attack:
        """The attack with these gradients."""
        return (
            Estimated(attack, directions=DIRECTIONS)
            if self.name == "estimate"
            else with_gradient(attack, self.name)
        )

    def steps(self, steps: int | None, queries: int) -> int | None:
        """How many an attack may take: `steps` where that is given; else, of estimated gradients, as many as `queries` pay for."""
        if steps is None and self.name == "estimate":
            return max(1, queries // PASSES)
        return steps


def choose_gradients(claim: Claim, run: Run) -> Gradients:
    """What the model says of itself; where that is nothing, and its own gradient is zero wherever it was looked at, the first of
    BPDA and differences of logits that gives another."""
    said = declared_gradient(claim.model.module)
    if said != "exact":
        return Gradients(
            said, "The model says that its logits have no useful gradient by the image"
        )
    few = run.subset(run.indices[:LOOKED])

    def seen(name: str) -> list[bool]:
        """Where it is anything but zero, of those of the images that the model has right."""
        table = few.map_images(
            f"{name} gradient", {"directions": DIRECTIONS}, _moves(Gradients(name))
        )
        return table["moves"].to_list() if len(table) else []

    own = seen("exact")
    if any(own) or not own:
        return Gradients("exact")
    why = f"The gradient of the model's margin by the image is zero at each of {len(own)} images that were looked at"
    return Gradients(next((name for name in ("bpda", "estimate") if any(seen(name))), "exact"), why)


def _moves(gradients: Gradients) -> Measurement:
    """Whether the gradient of the margin is anything but zero, bool (n,)."""

    def look(
        model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> dict[str, Tensor]:
        seen: list[Tensor] = []

        def ask(
            model: nn.Module, images: Tensor, labels: Tensor, generator: Randomness | None = None
        ) -> Tensor:
            seen.append(Oracle(model, labels).value_and_grad(images, margin).gradient)
            return images

        gradients.given_to(ask)(model, images, labels, generator=random)
        return {"moves": (torch.cat(seen) != 0).flatten(1).any(1)}

    return look
