"""The results of an audit as quantities with uncertainty, which all formats share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scotoma.execution.records import beyond
from scotoma.results.comparison.audits import Audit
from scotoma.results.finding import Row
from scotoma.threat import Threat
from scotoma.utils.stats import Estimate, Rate, median, rate


@dataclass(frozen=True)
class Quantity:
    """A measured value with its 95% interval.

    Args:
        name: "accuracy", "robust accuracy", "attack success" or "median".
        value: of `n` images that were attacked, or classified for the accuracy; a median may be
            infinite.
        of: number of test images if estimated for all of them from those attacked, else 0.
    """

    name: str
    threat: Threat | None
    value: Rate | Estimate
    of: int = 0


def quantities(audit: Audit) -> list[Quantity]:
    """Return accuracy, robust accuracy, attack success and median in the claim's norm.

    The first three are those of the headline: of the whole test set if that was estimated.
    """
    threat, correct = audit.threat, audit.correct()
    sizes = audit.sizes(threat.norm)
    robust = beyond(sizes, threat.eps)
    among = Quantity("median", threat, median(sizes))
    if (finding := audit.finding("robustness")) and "test_set_robust_accuracy" in finding.numbers:
        return [*_of_all(finding.numbers, threat), among]
    return [
        Quantity("accuracy", None, rate(correct)),
        Quantity("robust accuracy", threat, rate(robust)),
        Quantity("attack success", threat, rate(~robust[correct])),
        among,
    ]


def _of_all(numbers: Row, threat: Threat) -> list[Quantity]:
    """Return accuracy, robust accuracy and attack success of the whole test set."""
    images, attacked = numbers["test_set_images"], numbers["test_set_attacked"]
    estimates = []
    for name, within, n in (
        ("accuracy", None, images),
        ("robust accuracy", threat, attacked),
        ("attack success", threat, attacked),
    ):
        key = f"test_set_{'clean_accuracy' if within is None else name.replace(' ', '_')}"
        ends = (numbers[f"{key}{end}"] for end in ("", "_low", "_high"))
        value, low, high = (math.nan if each is None else each for each in ends)
        estimates.append(Quantity(name, within, Rate(value, low, high, n), images))
    return estimates


def in_other_norms(audit: Audit) -> list[Quantity]:
    """Return the robust accuracies at the bounds of the `norms` probe, without the claim's norm."""
    return [
        Quantity("robust accuracy", Threat(norm, bound), rate(beyond(audit.sizes(norm), bound)))
        for norm, bound in audit.bounds.items()
        if norm != audit.threat.norm
    ]


def stated(audit: Audit) -> list[Row]:
    """Return the numbers that the claim states, each beside its measurement and verdict, if any."""
    finding = audit.finding("robustness")
    return list(finding.tables.get("stated", ())) if finding else []


def kinds_of_attacks(audit: Audit) -> list[str]:
    """Return the names of the attacks on the test set itself, without their settings."""
    names = {name.partition("(")[0] for name in audit.attacks.get("none", ())}
    return sorted(names, key=str.lower)


def unattacked(audit: Audit) -> int:
    """Return the number of test images that were not attacked."""
    return max(0, audit.report.provenance.get("data", {}).get("test", 0) - audit.audited)


def certified(audit: Audit) -> bool:
    """Return whether a radius was certified for any image in the norm of the claim."""
    radii = audit.rows[f"{audit.threat.norm}_certified"].to_numpy().astype(float)
    return bool(np.isfinite(radii).any())
