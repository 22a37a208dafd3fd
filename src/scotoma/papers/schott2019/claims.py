"""What the paper claims of the six models, as comparisons on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scotoma.papers.schott2019.measured import Measured
from scotoma.probes.base import columns
from scotoma.probes.norms.analysis import MISLED
from scotoma.results.finding import Row
from scotoma.utils.stats import Rate, finite, rate

RULE = "the 95% interval of the share of images on which it is so lies above a half"


@dataclass(frozen=True)
class Check:
    """A claim of the paper, and the share of images on which it is so; those on which two distances tie are left out."""

    claim: str
    norm: str
    model: str
    against: str | None
    share: Rate

    @property
    def holds(self) -> bool:
        return bool(self.share.low > MISLED)

    @property
    def row(self) -> Row:
        """As a line of the table `checks`."""
        words = {
            "claim": self.claim,
            "norm": self.norm,
            "model": self.model,
            "against": self.against,
        }
        return (
            words | columns("share", self.share) | {"n": finite(self.share.n), "holds": self.holds}
        )


def checks(found: dict[str, Measured]) -> list[Check]:
    """All of them, for models by the paper's names."""
    return [
        *_largest("l2", "ABS", found),
        *_largest("l0", "ABS", found),
        *_largest("linf", "Binary ABS", found),
        *_trained(found),
    ]


def _largest(norm: str, model: str, found: dict[str, Measured]) -> Iterator[Check]:
    """One of the two generative models stands further than each that is none."""
    for other in found:
        if "ABS" not in other:
            yield _further(
                f"{model} stands further than models that do not generate",
                norm,
                model,
                other,
                found,
            )


def _trained(found: dict[str, Measured]) -> Iterator[Check]:
    """Training in one norm carries over to no other."""
    yield _further(
        "PGD training in L-inf makes a model fall to fewer pixels than natural training",
        "l0",
        "CNN",
        "Madry et al.",
        found,
    )
    for norm in ("l2", "l0"):
        nearer = found["Madry et al."].readings[norm].decision_nearer
        if nearer is not None:
            claim = "after PGD training attacks that see decisions alone come clearly nearer than those that follow gradients"
            yield Check(claim, norm, "Madry et al.", None, nearer)


def _further(claim: str, norm: str, model: str, other: str, found: dict[str, Measured]) -> Check:
    """Whether a model's distances are the larger ones."""
    a, b = (found[name].readings[norm].nearest for name in (model, other))
    apart = a != b
    return Check(claim, norm, model, other, rate(np.greater(a, b)[apart]))
