"""What the inequality probe compares with: a naturally trained model of the same architecture on the same data."""

from __future__ import annotations

from typing import NamedTuple

import torch

from scotoma.claim import Claim
from scotoma.execution.run import Run
from scotoma.models import ARCHITECTURES
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.models.synthesis import inside
from scotoma.probes.transfer.sources import small
from scotoma.reference import REFERENCES, find

MOST_WEIGHTS = 1_000_000
MOST_IMAGES = 5_000
"""A training on the spot takes less than a minute up to here."""


class Compared(NamedTuple):
    """The reference, if there is one, and where it comes from, in a sentence."""

    model: Classifier | None
    why: str


def compared(claim: Claim, run: Run, given: Classifier | None = None) -> Compared:
    """The user's reference; else one of `REFERENCES` that is there, else one trained now where that is quick, else none.

    Args:
        claim: the audited model, whose card names its architecture, and the data.
        run: whose progress is shown.
        given: the user's, looked at on the data.
    """
    if given is not None:
        return Compared(given, f"The reference is the model given, {given.name}.")
    arch, data = str(claim.model.card.get("arch")), claim.data
    if arch not in ARCHITECTURES:
        return Compared(
            None, _without("the card of the model names no architecture that could be trained")
        )
    for name, wanted in REFERENCES.items():
        if (wanted.recipe, wanted.data, wanted.arch) == ("natural", data.name, arch) and (
            path := find(name)
        ):
            model = load_model(str(path)).checked(data)
            if model.sha256 != claim.model.sha256:
                return Compared(
                    model,
                    f"The reference is the naturally trained {name} of the zoo, {arch} on {data.name} too.",
                )
    weights = sum(parameter.numel() for parameter in claim.model.module.parameters())
    images = 0 if data.train is None else len(data.train)
    if (
        not 0 < weights <= MOST_WEIGHTS
        or not 0 < images <= MOST_IMAGES
        or inside(claim.model.module)
    ):
        return Compared(
            None,
            _without(
                f"no naturally trained {arch} on {data.name} is there, and a training would not be quick"
            ),
        )
    with torch.random.fork_rng(
        [run.device] if run.device.type == "cuda" else []
    ):  # building a network draws weights
        model = small(arch, claim.data, run, "to compare with")
    if model.sha256 == claim.model.sha256:
        return Compared(None, _without("the model is itself the naturally trained one"))
    epochs = model.card["schedule"]["epochs"]
    length = f"{epochs} epoch{'' if epochs == 1 else 's'}"
    return Compared(
        model,
        f"The reference was trained for this probe: {arch} on {data.name}, naturally, {length}.",
    )


def _without(why: str) -> str:
    return f"There is no reference to compare with: {why}; give a naturally trained model of the same architecture by --reference."
