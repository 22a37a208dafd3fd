"""Claims of a paper as comparisons, each with the interval that decides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scotoma.probes.base import columns
from scotoma.results.finding import Row
from scotoma.utils.stats import Estimate, Rate, mean, paired_difference, percentiles

Interval = Rate | Estimate
"""A value with its 95% interval over n images."""
Outcome = Literal["agrees", "undecided", "contradicts"]

RULE = "the 95% interval of the difference, paired by image, lies above 0"
"""When a comparison agrees; it contradicts the paper if the interval lies below 0."""
APART = "the two 95% intervals do not meet and lie in the order that the claim names"
SUM = (
    "In sum it agrees if more than half of the comparisons agree and none contradicts, contradicts "
    "if more contradict than agree, and is undecided otherwise"
)

Side = tuple[str, np.ndarray | float]
"""One side of a comparison, in words, and its values (n,) or a single one."""
Where = Row | str
"""What a comparison is about: cells of the table of checks, or the text of the cell "where"."""


@dataclass(frozen=True)
class Check:
    """A claim of a paper, compared.

    Args:
        claim: a sentence.
        cells: cells of the table of checks: what is compared, and the values.
        holds: whether the measurement agrees beyond chance.
        contrary: whether it says the opposite beyond chance.
        difference: with its 95% interval, if that is what decides.
    """

    claim: str
    cells: Row
    holds: bool
    contrary: bool = False
    difference: Estimate | None = None

    @property
    def outcome(self) -> Outcome:
        """What the measurement says about the claim."""
        return "agrees" if self.holds else "contradicts" if self.contrary else "undecided"

    @property
    def row(self) -> Row:
        """Line of the table of checks."""
        return {"check": self.claim, **self.cells, "outcome": self.outcome}

    @property
    def where(self) -> str:
        """Names of what is compared, for a sentence."""
        return ", ".join(filter(None, (self.cells.get(name) for name in ("where", "model"))))


def decided(
    claim: str, where: Where, first: Side, second: Side, difference: Estimate, slack: float = 0.0
) -> Check:
    """Check that the first of two sides is larger, or smaller by less than `slack`.

    Args:
        claim: a sentence.
        where: what it is about.
        first, second: what is compared.
        difference: first minus second, with its 95% interval.
    """
    cells = _cells(where)
    for key, (name, values) in {"value": first, "against": second}.items():
        cells |= {f"{key}_of": name, key: round(float(np.mean(values)), 6)}
    cells |= columns("difference", difference) | {"n": difference.n}
    return Check(claim, cells, difference.low > -slack, difference.high < -slack, difference)


def of_resamples(values: np.ndarray, n: int) -> Estimate:
    """Return the first value with the 95% interval of the others, its bootstrap resamples."""
    return Estimate(float(values[0]), *percentiles(values[1:]), n)


def larger(
    claim: str,
    where: Where,
    first: Side,
    second: Side,
    most: float | None = None,
    slack: float = 0.0,
) -> Check:
    """Check that values of the same images are larger, by the mean difference; see `decided`.

    Args:
        most: the largest possible difference, if there is one. The interval then has a width even
            if all images agree.
    """
    values = np.asarray(first[1]), np.asarray(second[1])
    pair = paired_difference(*values, most) if most else mean(np.subtract(*values))
    return decided(claim, where, first, second, pair, slack)


def more_errors(claim: str, where: Where, first: Side, second: Side, slack: float = 0.0) -> Check:
    """Check that errors of the same images, (n,) in [0, 1], are more; see `decided`."""
    return larger(claim, where, first, second, 1.0, slack)


def apart(claim: str, low: Interval, high: Interval, where: Where | None = None) -> Check:
    """Check that one value lies below another, and that their 95% intervals do not meet.

    If `low` is over no images, the claim holds.
    """
    cells = _cells(where or {}) | columns("lower", low) | columns("higher", high) | {"n": low.n}
    holds, contrary = not low.n or low.high < high.low, low.low > high.high
    return Check(claim, cells, bool(holds), bool(contrary))


def within(
    claim: str, where: Where, value: Interval, low: float = -np.inf, high: float = np.inf
) -> Check:
    """Check that a value lies between two bounds: its whole interval does, or none of it."""
    cells = _cells(where) | columns("value", value) | {"n": value.n}
    inside = value.low >= low and value.high <= high
    outside = value.high < low or value.low > high
    return Check(claim, cells, bool(inside), bool(outside))


def _cells(where: Where) -> Row:
    return {"where": where} if isinstance(where, str) else dict(where)


def in_order(checks: Sequence[Check]) -> list[Check]:
    """Sort checks by claim, claims in the order in which they first appear."""
    claims = list(dict.fromkeys(check.claim for check in checks))
    return sorted(checks, key=lambda check: claims.index(check.claim))


def counts(checks: Sequence[Check]) -> dict[str, int]:
    """Return the number of comparisons, and of those with each outcome."""
    outcomes = [check.outcome for check in checks]
    return {
        "checks": len(checks),
        "checks_agree": outcomes.count("agrees"),
        "checks_undecided": outcomes.count("undecided"),
        "checks_contradict": outcomes.count("contradicts"),
    }


def verdict(checks: Sequence[Check]) -> Outcome:
    """Return what the comparisons say in sum, by the rule `SUM`.

    >>> agrees, contradicts = Check("a", {}, True), Check("b", {}, False, True)
    >>> verdict([agrees, agrees]), verdict([agrees, contradicts]), verdict([contradicts])
    ('agrees', 'undecided', 'contradicts')
    """
    totals = counts(checks)
    if totals["checks_agree"] * 2 > len(checks) and not totals["checks_contradict"]:
        return "agrees"
    return "contradicts" if totals["checks_contradict"] > totals["checks_agree"] else "undecided"


def sentences(checks: Sequence[Check]) -> str:
    """Return sentences that say how many comparisons agree, and which do not."""
    agree = counts(checks)["checks_agree"]
    text = f"{agree} of {len(checks)} comparisons agree with the paper."
    for label, outcome in {"Contradicted": "contradicts", "Undecided": "undecided"}.items():
        by_claim: dict[str, list[Check]] = {}
        for check in checks:
            if check.outcome == outcome:
                by_claim.setdefault(check.claim, []).append(check)
        if by_claim:
            text += f" {label}: {'; '.join(map(_description, by_claim.values()))}."
    return text


def _description(checks: list[Check]) -> str:
    """Return a claim, what was compared, and the range of the differences."""
    compared = list(dict.fromkeys(check.where for check in checks if check.where))
    where = "; ".join(compared) if len(compared) < 4 else f"{len(compared)} comparisons"
    differences = [check.difference for check in checks if check.difference]
    spread = ""
    if len(differences) == 1:
        (only,) = differences
        spread = f": {only.value:+.3f} ({only.low:+.3f} to {only.high:+.3f})"
    elif differences:
        values = [each.value for each in differences]
        spread = f": {min(values):+.3f} to {max(values):+.3f}"
    return f"{checks[0].claim}{f' ({where})' if where else ''}{spread}"
