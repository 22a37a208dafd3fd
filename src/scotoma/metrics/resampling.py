"""A measure of how far the test set is from the training set, beside what chance alone would give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scotoma.utils.stats import Z95

DRAWS = 59
"""Larger than each of 59 draws by chance: once in 60 times."""

Measure = Callable[[np.ndarray, np.ndarray], float]
"""From indices of points to indices of others, into the training points followed by the test points."""


@dataclass(frozen=True)
class Comparison:
    """A measure from the training set to the test set, and between parts of the training set.

    Estimates of a divergence depend on how many points there are. So the null is compared with `matched`, not with `value`.
    """

    value: float
    """Of all points."""
    error: float
    """Its standard error."""
    matched: np.ndarray
    """(draws,): from a random part of the training set to test points."""
    null: np.ndarray
    """(draws,): from the same part to as many training points outside it."""

    @property
    def low(self) -> float:
        """Lower end of the 95% interval of `value`."""
        return self.value - Z95 * self.error

    @property
    def high(self) -> float:
        """Upper end of the 95% interval of `value`."""
        return self.value + Z95 * self.error

    @property
    def excess(self) -> float:
        """How much farther the test set is than the training set from itself, on average."""
        return float(self.matched.mean() - self.null.mean())

    @property
    def beyond_null(self) -> bool:
        """Whether the test set is farther than every held-out part of the training set."""
        return bool(self.matched.mean() > self.null.max())


def compare(
    n: int, m: int, measure: Measure, seed: Sequence[int], draws: int = DRAWS
) -> Comparison | None:
    """A measure of n training and m test points.

    The standard error is the spread over random halves of both samples, drawn without replacement: twice the variance of the
    whole, less what a half shares with the whole that it is drawn from, which leaves the variance of the whole or a little
    more. That is subsampling (Politis and Romano 1994). A bootstrap would draw points twice, and a point's copy is its nearest
    neighbour at distance zero. The null holds out as many training points as there are test points, at most half of them, and
    measures to them from the rest.

    Args:
        n, m: at least 2.
        measure: of indices, the training points being 0 to n - 1 and the test points n to n + m - 1.
        seed: of the draws.
        draws: of halves and of held-out parts.

    Returns:
        None where the measure of all points or of a draw is not finite.
    """
    generator = np.random.default_rng(seed)
    train, test = np.arange(n), np.arange(n, n + m)
    held = min(m, n // 2)
    halves, matched, null = np.empty(draws), np.empty(draws), np.empty(draws)
    for i in range(draws):
        ours, theirs = generator.permutation(train), generator.permutation(test)
        halves[i] = measure(ours[: n // 2], theirs[: m // 2])
        matched[i] = measure(ours[held:], theirs[:held])
        null[i] = measure(ours[held:], ours[:held])
    value = measure(train, test)
    if not np.isfinite([value, *halves, *matched, *null]).all():
        return None
    return Comparison(value, float(halves.std(ddof=1)), matched, null)


def average(comparisons: Sequence[Comparison]) -> Comparison:
    """The mean over samples that share no points, such as classes."""
    errors = np.array([comparison.error for comparison in comparisons])
    return Comparison(
        float(np.mean([comparison.value for comparison in comparisons])),
        float(np.sqrt((errors**2).sum()) / len(errors)),
        np.mean([comparison.matched for comparison in comparisons], axis=0),
        np.mean([comparison.null for comparison in comparisons], axis=0),
    )
