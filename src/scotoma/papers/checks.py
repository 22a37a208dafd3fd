"""Claims of a paper as comparisons, each with the interval that decides it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scotoma.probes.base import columns
from scotoma.results.finding import Row
from scotoma.utils.stats import Estimate, Rate, mean, paired_difference, percentiles

Measured = Rate | Estimate
"""A value with its 95% interval over n images."""

Outcome = Literal["agrees", "undecided", "contradicts"]

RULE = "the 95% interval of the difference, paired by image, lies above 0"
"""When a comparison agrees; it contradicts the paper if the interval lies below 0."""
APART = "the two 95% intervals do not meet and lie in the order that the claim names"
SUM = (
    "In sum it agrees if more than half of the comparisons agree and none contradicts, contradicts "
    "if more contradict than agree, and is undecided otherwise"
)

Values = tuple[str, np.ndarray]
"""What is compared, in words, and its values, (n,)."""
Side = tuple[str, np.ndarray | float]
"""One side of a comparison, in words, and its values (n,) or a single one."""


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
        names = (value for name, value in self.cells.items() if name in ("where", "model"))
        return ", ".join(filter(None, names))


def decided(
    claim: str, where: Row, first: Side, second: Side, difference: Estimate, slack: float = 0.0
) -> Check:
    """Return the check that the difference of two sides lies above -slack.

    Args:
        claim: a sentence.
        where: cells that say what it is about.
        first: what should be larger.
        second: what should be smaller.
        difference: difference of the two, with its 95% interval.
        slack: by how much the first may be smaller.
    """
    cells: Row = dict(where)
    for key, (name, values) in {"value": first, "against": second}.items():
        cells |= {f"{key}_of": name, key: round(float(np.mean(values)), 6)}
    cells |= columns("difference", difference) | {"n": difference.n}
    contrary = difference.high < -slack
    return Check(claim, cells, difference.low > -slack, contrary, difference)


def of_resamples(values: np.ndarray, n: int) -> Estimate:
    """Return the first value with the 95% interval of the others, its bootstrap resamples."""
    return Estimate(float(values[0]), *percentiles(values[1:]), n)


def larger(claim: str, where: Row, first: Values, second: Values) -> Check:
    """Check that a measure is larger in one place than in another, on the same images."""
    return decided(claim, where, first, second, mean(first[1] - second[1]))


def more_errors(
    claim: str, where: Row, first: Values, second: Values, slack: float = 0.0, most: float = 1.0
) -> Check:
    """Check that values of at most `most`, such as errors, are larger; see `decided`."""
    difference = paired_difference(first[1], second[1], most)
    return decided(claim, where, first, second, difference, slack)


def wider_gap(
    claim: str,
    where: Row,
    first: tuple[str, np.ndarray, np.ndarray],
    second: tuple[str, np.ndarray, np.ndarray],
) -> Check:
    """Check that one difference of errors is larger than another; see `decided`."""
    wide, narrow = ((name, above - below) for name, above, below in (first, second))
    return more_errors(claim, where, wide, narrow, most=2.0)


def apart(claim: str, low: Measured, high: Measured, where: Row | None = None) -> Check:
    """Check that one value lies below another, and that their 95% intervals do not meet.

    If `low` is over no images, the claim holds.
    """
    cells = (where or {}) | columns("lower", low) | columns("higher", high) | {"n": low.n}
    holds, contrary = not low.n or low.high < high.low, low.low > high.high
    return Check(claim, cells, bool(holds), bool(contrary))


def within(
    claim: str, where: Row, measured: Measured, low: float = -np.inf, high: float = np.inf
) -> Check:
    """Check that a value lies between two bounds: its whole interval does, or none of it."""
    cells = where | columns("value", measured) | {"n": measured.n}
    inside = measured.low >= low and measured.high <= high
    outside = measured.high < low or measured.low > high
    return Check(claim, cells, bool(inside), bool(outside))


def in_order(checks: list[Check]) -> list[Check]:
    """Sort checks by claim, claims in the order in which they first appear."""
    claims = list(dict.fromkeys(check.claim for check in checks))
    return sorted(checks, key=lambda check: claims.index(check.claim))


def counts(checks: Sequence[Check]) -> dict[str, int]:
    """Return the number of comparisons, and of those with each outcome."""
    outcomes = [check.outcome for check in checks]
    named = {"agree": "agrees", "undecided": "undecided", "contradict": "contradicts"}
    return {"checks": len(checks)} | {
        f"checks_{name}": outcomes.count(which) for name, which in named.items()
    }


def verdict(checks: Sequence[Check]) -> Outcome:
    """Return what the comparisons say in sum, by the rule `SUM`.

    >>> agrees, contradicts = Check("a", {}, True), Check("b", {}, False, True)
    >>> verdict([agrees, agrees]), verdict([agrees, contradicts]), verdict([contradicts])
    ('agrees', 'undecided', 'contradicts')
    """
    of = counts(checks)
    if of["checks_agree"] * 2 > len(checks) and not of["checks_contradict"]:
        return "agrees"
    return "contradicts" if of["checks_contradict"] > of["checks_agree"] else "undecided"


def sentences(checks: Sequence[Check]) -> str:
    """Return sentences that say how many comparisons agree, and which do not."""
    of = counts(checks)
    said = f"{of['checks_agree']} of {len(checks)} comparisons agree with the paper."
    for words, which in {"Contradicted": "contradicts", "Undecided": "undecided"}.items():
        some = [check for check in checks if check.outcome == which]
        if some:
            claims = dict.fromkeys(check.claim for check in some)
            listed = (_named([c for c in some if c.claim == claim]) for claim in claims)
            said += f" {words}: {'; '.join(listed)}."
    return said


def _named(checks: list[Check]) -> str:
    """Return a claim, what was compared, and the range of the differences."""
    places = list(dict.fromkeys(check.where for check in checks if check.where))
    where = "; ".join(places) if len(places) < 4 else f"{len(places)} comparisons"
    known = [check.difference for check in checks if check.difference]
    spread = ""
    if len(known) == 1:
        spread = f": {known[0].value:+.3f} ({known[0].low:+.3f} to {known[0].high:+.3f})"
    elif known:
        values = [each.value for each in known]
        spread = f": {min(values):+.3f} to {max(values):+.3f}"
    return f"{checks[0].claim}{f' ({where})' if where else ''}{spread}"
