"""Comparisons on the same images, each with the interval that says whether it is more than chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scotoma.probes.base import columns
from scotoma.results.finding import Row
from scotoma.utils.stats import Z95, Estimate, mean

RULE = "the 95% interval of the difference, image by image, lies above 0"


@dataclass(frozen=True)
class Check:
    """Whether a value is larger than it would have to be if a claim of the paper did not hold.

    Args:
        claim: the paper's, as a sentence.
        where: of which model or models, and under what.
        larger, smaller: the two values, as words and as means.
        difference: larger - smaller, with its 95% interval.
        slack: by how much the first may be the smaller one.
    """

    claim: str
    where: str
    larger: tuple[str, float]
    smaller: tuple[str, float]
    difference: Estimate
    slack: float = 0.0

    @property
    def holds(self) -> bool:
        return self.difference.low > -self.slack

    @property
    def contrary(self) -> bool:
        """Whether the data say the opposite, beyond chance."""
        return self.difference.high < -self.slack

    @property
    def row(self) -> Row:
        """As a line of the table `checks`."""
        words = {"check": self.claim, "where": self.where}
        for name, (what, value) in {"value": self.larger, "against": self.smaller}.items():
            words |= {f"{name}_of": what, name: round(value, 6)}
        outcome = (
            "holds" if self.holds else "the opposite" if self.contrary else "not beyond chance"
        )
        return (
            words
            | columns("difference", self.difference)
            | {"n": self.difference.n, "outcome": outcome}
        )


def larger(
    claim: str, where: str, first: tuple[str, np.ndarray], second: tuple[str, np.ndarray]
) -> Check:
    """Whether a measure is larger in one place than in another; both are (n,), the same images in the same order."""
    (a, above), (b, below) = first, second
    return Check(
        claim, where, (a, float(above.mean())), (b, float(below.mean())), mean(above - below)
    )


def more_errors(
    claim: str,
    where: str,
    first: tuple[str, np.ndarray],
    second: tuple[str, np.ndarray],
    slack: float = 0.0,
) -> Check:
    """The same of errors in [0, 1]."""
    (a, above), (b, below) = first, second
    return Check(
        claim,
        where,
        (a, float(above.mean())),
        (b, float(below.mean())),
        paired(above - below),
        slack,
    )


def wider_gap(
    claim: str,
    where: str,
    first: tuple[str, np.ndarray, np.ndarray],
    second: tuple[str, np.ndarray, np.ndarray],
) -> Check:
    """Whether one difference of errors is larger than another."""
    (a, *one), (b, *two) = first, second
    wide, narrow = one[0] - one[1], two[0] - two[1]
    return Check(
        claim,
        where,
        (a, float(wide.mean())),
        (b, float(narrow.mean())),
        paired(wide - narrow, most=2.0),
    )


def paired(differences: np.ndarray, most: float = 1.0) -> Estimate:
    """The mean of differences in [-most, most], (n,), with its 95% interval; NaN where n is 0.

    One image of either extreme is added, so that an interval has a width where all differences agree; for differences of single
    answers that is the interval of Bonett and Price (2012).
    """
    n = len(differences)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    value, added = float(differences.mean()), np.append(differences, [most, -most])
    centre, reach = float(added.mean()), Z95 * float(added.std()) / math.sqrt(n + 2)
    return Estimate(
        value, max(-most, min(value, centre - reach)), min(most, max(value, centre + reach)), n
    )
