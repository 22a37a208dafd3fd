"""Comparisons of errors on the same images, each with the interval that says whether it is more than noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scotoma.probes.base import columns
from scotoma.results.finding import Row
from scotoma.utils.stats import Z95, Estimate, rate

RULE = "the 95% interval of the difference, image by image, lies above 0"


@dataclass(frozen=True)
class Check:
    """Whether an error is larger than it would have to be if a claim of the paper did not hold.

    Args:
        claim: the paper's, as a sentence.
        model: which it is about.
        source: the model on which examples were made; None where that is the model itself.
        larger, smaller: the two errors, as words and as rates.
        difference: larger - smaller, with its 95% interval.
    """

    claim: str
    model: str
    source: str | None
    larger: tuple[str, float]
    smaller: tuple[str, float]
    difference: Estimate

    @property
    def holds(self) -> bool:
        return self.difference.low > 0

    @property
    def row(self) -> Row:
        """As a line of the table `checks`."""
        words = {"check": self.claim, "model": self.model, "source": self.source}
        for name, (what, value) in {"error": self.larger, "against": self.smaller}.items():
            words |= {f"{name}_of": what, name: round(value, 6)}
        return (
            words
            | columns("difference", self.difference)
            | {"n": self.difference.n, "holds": self.holds}
        )


def more_often(
    claim: str,
    model: str,
    larger: tuple[str, np.ndarray],
    smaller: tuple[str, np.ndarray],
    source: str | None = None,
) -> Check:
    """Whether images are wrong in one place more often than in another; both are bool (n,), the same images in the same order."""
    (first, a), (second, b) = larger, smaller
    return Check(
        claim, model, source, (first, float(a.mean())), (second, float(b.mean())), paired(a, b)
    )


def more_than(claim: str, model: str, larger: tuple[str, np.ndarray], share: float) -> Check:
    """Whether more than a share of images, bool (n,), is wrong."""
    what, wrong = larger
    found = rate(wrong)
    difference = Estimate(found.value - share, found.low - share, found.high - share, found.n)
    return Check(claim, model, None, (what, found.value), ("bound", share), difference)


def paired(a: np.ndarray, b: np.ndarray) -> Estimate:
    """The difference of two rates over the same images, bool (n,) each, with its 95% interval (Bonett and Price 2012).

    The interval adds one image to either kind of disagreement, so that it has a width where there is none. NaN where n is 0.
    """
    n = len(a)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p, q = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    reach = Z95 * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    value = (only_a - only_b) / n
    return Estimate(
        value, max(-1.0, min(value, p - q - reach)), min(1.0, max(value, p - q + reach)), n
    )
