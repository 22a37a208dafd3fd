"""The reference of the inequality probe: a naturally trained model of the same architecture."""

from __future__ import annotations

from typing import NamedTuple

from scotoma.claim import Claim
from scotoma.execution.run import Run
from scotoma.models import ARCHITECTURES
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.models.synthesis import inside
from scotoma.probes.transfer.sources import small
from scotoma.reference import REFERENCES, in_zoo
from scotoma.utils.random import own_numbers

MOST_WEIGHTS = 1_000_000
MOST_IMAGES = 5_000
"""Largest training set with which a training takes less than a minute."""


class ReferenceChoice(NamedTuple):
    """The reference, if there is one, and a sentence on its origin."""

    model: Classifier | None
    why: str


def choose_reference(claim: Claim, run: Run, option: Classifier | None = None) -> ReferenceChoice:
    """Return the user's reference, an available one of `REFERENCES`, or one trained now if quick.

    Args:
        claim: the audited model, whose card names its architecture, and the data.
        run: the run that shows the progress.
        option: the user's reference after `Probe.prepare`.
    """
    if option is not None:
        return ReferenceChoice(
            option, f"The reference is {option.name}, which the option reference names."
        )
    arch, data = str(claim.model.card.get("arch")), claim.data
    if arch not in ARCHITECTURES:
        return _without("the card of the model names no architecture that could be trained")
    for name, entry in REFERENCES.items():
        fits = (entry.recipe, entry.data, entry.arch) == ("natural", data.name, arch)
        if fits and (path := in_zoo(name)):
            model = load_model(str(path)).checked(data)
            if model.sha256 != claim.model.sha256:
                kind = f"a naturally trained {arch} on {data.name}"
                return ReferenceChoice(model, f"The reference is {name} from the zoo, {kind}.")
    weights = sum(parameter.numel() for parameter in claim.model.module.parameters())
    images = 0 if data.train is None else len(data.train)
    quick = 0 < weights <= MOST_WEIGHTS and 0 < images <= MOST_IMAGES
    if not quick or inside(claim.model.module):
        return _without(
            f"no naturally trained {arch} on {data.name} is available, and training one would take "
            "too long"
        )
    with own_numbers():  # building a network draws weights
        model = small(arch, claim.data, run, "to compare with")
    if model.sha256 == claim.model.sha256:
        return _without("the model is itself the naturally trained one")
    epochs = model.card["schedule"]["epochs"]
    how = f"natural, {arch} on {data.name}, {epochs} epoch{'' if epochs == 1 else 's'}"
    return ReferenceChoice(model, f"The reference was trained for this probe: {how}.")


def _without(why: str) -> ReferenceChoice:
    return ReferenceChoice(
        None,
        f"There is no reference to compare with: {why}; name a naturally trained model of the same "
        "architecture with the option reference.",
    )
