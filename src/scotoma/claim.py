"""A claim of robustness: a model classifies data correctly under every perturbation of a threat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scotoma.threat import Threat
from scotoma.utils.errors import InputError

if TYPE_CHECKING:
    from scotoma.data.dataset import Dataset
    from scotoma.models.classifier import Classifier

MARGIN = 0.02
"""How far below a claimed accuracy the true one may lie for the claim still to hold: a claim that
is exactly true could never be told from one that is a little too high."""


@dataclass(frozen=True)
class Stated:
    """Numbers that a claim states, as shares of all test images.

    Args:
        clean: accuracy without an attack.
        robust: robust accuracy within the threat.
        also: robust accuracy within other threats.
        margin: how far below a stated number the true one may lie for the claim to hold.
        source: where the numbers stand, for the report.

    Raises:
        InputError: a number that is no share, or a robust accuracy above the clean one.

    >>> Stated(robust=0.912, source="Table 1").numbers(Threat("linf", 0.3))
    {'robust accuracy within linf:0.3': 0.912}
    """

    clean: float | None = None
    robust: float | None = None
    also: tuple[tuple[Threat, float], ...] = ()
    margin: float = MARGIN
    source: str = ""

    def __post_init__(self):
        shares = {
            "clean_accuracy": self.clean,
            "robust_accuracy": self.robust,
            **{f"accuracy within {threat}": share for threat, share in self.also},
        }
        for name, share in shares.items():
            if share is not None and not 0 < share <= 1:
                raise InputError(f"{name} is {share:g}; want a share above 0 and up to 1")
        if self.clean is not None and (self.robust or 0) > self.clean:
            raise InputError(
                f"robust_accuracy {self.robust:g} is above clean_accuracy {self.clean:g}; robust "
                "accuracy counts images that are classified correctly before and after the attack"
            )
        if not 0 < self.margin < 1:
            raise InputError(f"margin is {self.margin:g}; want a share above 0 and below 1")

    def numbers(self, threat: Threat) -> dict[str, float]:
        """Return the numbers that are stated, by what they are, for a claim of this threat."""
        named = [("clean accuracy", self.clean), (f"robust accuracy within {threat}", self.robust)]
        named += [(f"robust accuracy within {other}", share) for other, share in self.also]
        return {name: share for name, share in named if share is not None}


@dataclass(frozen=True)
class Claim:
    """What is audited: `model` classifies `data` correctly under every perturbation of `threat`.

    Args:
        model: the model, checked on the data (`Classifier.checked`).
        data: test and training images.
        threat: the perturbations.
        stated: the numbers that are claimed, if any.

    >>> import scotoma, torch
    >>> model = scotoma.load_model(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)))
    >>> print(Claim(model, scotoma.load_data("digits"), Threat("linf", 0.1)).threat)
    linf:0.1
    """

    model: Classifier
    data: Dataset
    threat: Threat
    stated: Stated = Stated()
