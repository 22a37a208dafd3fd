"""The results of an audit as quantities with uncertainty, which all formats share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scotoma.claim import Threat
from scotoma.execution.records import beyond
from scotoma.results.comparison.audits import Audit
from scotoma.results.finding import Finding, Row
from scotoma.utils.stats import Median, Rate, median, rate


@dataclass(frozen=True)
class Quantity:
    """A measured value with its 95% interval.

    Args:
        name: what it is: "accuracy", "robust accuracy", "attack success" or "median".
        threat: the perturbations, if any.
        value: the value, which may be infinite for a median.
    """

    name: str
    threat: Threat | None
    value: Rate | Median


def threat(audit: Audit) -> Threat:
    """Return the threat of an audit."""
    return Threat.parse(audit.identity["threat"])


def quantities(audit: Audit) -> list[Quantity]:
    """Return accuracy, robust accuracy, attack success and median in the claim's norm."""
    claimed, correct = threat(audit), audit.correct()
    sizes = audit.sizes(claimed.norm)
    kept = beyond(sizes, claimed.eps)
    return [
        Quantity("accuracy", None, rate(correct)),
        Quantity("robust accuracy", claimed, rate(kept)),
        Quantity("attack success", claimed, rate(~kept[correct])),
        Quantity("median", claimed, median(sizes)),
    ]


def in_other_norms(audit: Audit) -> list[Quantity]:
    """Return the robust accuracies at the bounds of the `norms` probe, without the claim's norm."""
    found = finding(audit, "norms")
    claimed, measured = threat(audit), []
    for norm, bound in (found.numbers.get("bounds", {}) if found else {}).items():
        if norm != claimed.norm:
            kept = beyond(audit.sizes(norm), bound)
            measured.append(Quantity("robust accuracy", Threat(norm, bound), rate(kept)))
    return measured


def finding(audit: Audit, probe: str) -> Finding | None:
    """Return the finding of a probe, if it ran."""
    return next((each for each in audit.report.findings if each.probe == probe), None)


def stated(audit: Audit) -> list[Row]:
    """Return the numbers that the claim states, each beside its measurement and verdict, if any."""
    found = finding(audit, "robustness")
    return list(found.tables.get("stated", ())) if found else []


def kinds_of_attacks(audit: Audit) -> list[str]:
    """Return the names of the attacks on the test set itself, without their settings."""
    names = {name.partition("(")[0] for name in audit.attacks.get("none", ())}
    return sorted(names, key=str.lower)


def unattacked(audit: Audit) -> int:
    """Return the number of test images that were not attacked."""
    return max(0, audit.report.provenance.get("data", {}).get("test", 0) - audit.audited)


def certified(audit: Audit) -> bool:
    """Return whether a radius was certified for any image in the norm of the claim."""
    radii = audit.rows[f"{threat(audit).norm}_certified"].to_numpy().astype(float)
    return bool(np.isfinite(radii).any())
