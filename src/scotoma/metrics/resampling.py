"""A measure between the test set and the training set, with its null distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scotoma.utils.stats import Z95

DRAWS = 59
"""Number of draws: chance alone exceeds all 59 once in 60 times."""

Measure = Callable[[np.ndarray, np.ndarray], float]
"""A function of two arrays of indices into the training points followed by the test points."""


@dataclass(frozen=True)
class Comparison:
    """A measure from the training set to the test set, and between parts of the training set.

    Estimates of a divergence depend on the number of points, so compare the null with `matched`,
    not with `value`.
    """

    value: float
    """Measure of all points."""
    error: float
    """Standard error of `value`."""
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
        """Mean of `matched` minus mean of `null`."""
        return float(self.matched.mean() - self.null.mean())

    @property
    def beyond_null(self) -> bool:
        """Whether the test set is farther than every held-out part of the training set."""
        return bool(self.matched.mean() > self.null.max())


def compare(
    n: int, m: int, measure: Measure, seed: Sequence[int], draws: int = DRAWS
) -> Comparison | None:
    """Measure n training against m test points, with a standard error and a null distribution.

    The standard error is the spread over random halves of both samples, drawn without replacement
    (subsampling, Politis and Romano 1994). Halves have twice the variance of the whole but share
    points with it, so their spread is the standard error of the whole or a little more. A
    bootstrap would draw points twice, and the nearest neighbour of a point would be its copy. For
    the null, as many training points as there are test points (at most half) are held out and
    compared with the rest.

    Args:
        n, m: numbers of training and test points, at least 2.
        measure: function of indices: training points are 0 to n - 1, test points n to n + m - 1.
        seed: seed of the draws.
        draws: number of halves and of held-out parts.

    Returns:
        None where the measure of all points or of a draw is not finite.
    """
    generator = np.random.default_rng(seed)
    train, test = np.arange(n), np.arange(n, n + m)
    size = min(m, n // 2)
    halves, matched, null = np.empty(draws), np.empty(draws), np.empty(draws)
    for i in range(draws):
        ours, theirs = generator.permutation(train), generator.permutation(test)
        halves[i] = measure(ours[: n // 2], theirs[: m // 2])
        matched[i] = measure(ours[size:], theirs[:size])
        null[i] = measure(ours[size:], ours[:size])
    value = measure(train, test)
    if not np.isfinite([value, *halves, *matched, *null]).all():
        return None
    return Comparison(value, float(halves.std(ddof=1)), matched, null)


def average(comparisons: Sequence[Comparison]) -> Comparison:
    """Return the mean over samples that share no points, such as classes."""
    errors = np.array([comparison.error for comparison in comparisons])
    return Comparison(
        float(np.mean([comparison.value for comparison in comparisons])),
        float(np.sqrt((errors**2).sum()) / len(errors)),
        np.mean([comparison.matched for comparison in comparisons], axis=0),
        np.mean([comparison.null for comparison in comparisons], axis=0),
    )
