"""Rates, medians, means and correlations, each with a 95% interval."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import NamedTuple, SupportsFloat

import numpy as np

Z95 = 1.959963984540054
RESAMPLES = 1000


class Rate(NamedTuple):
    """A fraction of `n` with its 95% Wilson interval; NaN if n is 0."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        text = f"{self.value:.1%} ({self.low:.1%}-{self.high:.1%}, n = {self.n})"
        return text if self.n else "no images"


def rate(successes: np.ndarray, of: int = 1) -> Rate:
    """Return the rate of a boolean array (n,) with its `interval`, one of `of` at once.

    >>> print(rate(np.array([True, True, False, False])))
    50.0% (15.0%-85.0%, n = 4)
    """
    n = len(successes)
    if n == 0:
        return Rate(math.nan, math.nan, math.nan, 0)
    return interval(float(np.mean(successes)), n, of)


def z_of(of: int = 1) -> float:
    """Return half the width of `of` intervals at once (Bonferroni), in standard errors.

    >>> round(z_of(1), 2), round(z_of(12), 2)
    (1.96, 2.87)
    """
    return Z95 if of == 1 else NormalDist().inv_cdf(1 - 0.025 / of)


def interval(p: float, n: int, of: int = 1) -> Rate:
    """Return a share `p` of `n` > 0 with its 95% interval, one of `of` that hold at once.

    Several at once are exact ones at 1 - 0.05 / of: so far out, the tails of Wilson's are too thin.

    Source:
        Wilson (1927); Clopper and Pearson (1934) with Bonferroni.

    >>> print(interval(0.5, 4), interval(0.5, 4, of=3), sep="; ")
    50.0% (15.0%-85.0%, n = 4); 50.0% (3.8%-96.2%, n = 4)
    """
    if of > 1:
        return exact_interval(p, n, of)
    centre = p + Z95**2 / (2 * n)
    half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
    scale = 1 + Z95**2 / n
    low, high = (centre - half) / scale, (centre + half) / scale
    # at 0 and 1 rounding would leave p outside
    return Rate(p, max(0.0, min(p, low)), min(1.0, max(p, high)), n)


def exact_interval(p: float, n: int, of: int = 1) -> Rate:
    """Return a share `p` of `n` > 0 with its exact 95% interval, one of `of` that hold at once.

    Source:
        Clopper and Pearson (1934) with Bonferroni.

    >>> print(exact_interval(0.5, 4))
    50.0% (6.8%-93.2%, n = 4)
    """
    from scipy.special import betaincinv  # the quantile of scipy.stats is ten times slower

    tail, k = 0.025 / of, p * n
    low = betaincinv(k, n - k + 1, tail) if k > 0 else 0.0
    high = betaincinv(k + 1, n - k, 1 - tail) if k < n else 1.0
    return Rate(p, float(low), float(high), n)


class Estimate(NamedTuple):
    """A value of `n` images with its 95% interval; NaN where it is not defined, with n = 0."""

    value: float
    low: float
    high: float
    n: int


UNDEFINED = Estimate(math.nan, math.nan, math.nan, 0)


def median(values: np.ndarray) -> Estimate:
    """Return the lower median, which may be infinite.

    Its interval is of two order statistics (Conover 1999, 3.2).
    """
    n = len(values)
    if n == 0:
        return UNDEFINED
    ordered = np.sort(values)
    reach = Z95 * math.sqrt(n) / 2
    low, high = math.floor(n / 2 - reach) - 1, math.ceil(n / 2 + reach)
    value, low, high = map(float, ordered[[(n - 1) // 2, max(0, low), min(n - 1, high)]])
    return Estimate(value, low, high, n)


def mean(values: np.ndarray) -> Estimate:
    """Return the mean with its normal 95% interval; NaN if n is 0."""
    if not len(values):
        return UNDEFINED
    half = Z95 * float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    centre = float(values.mean())
    return Estimate(centre, centre - half, centre + half, len(values))


ADDED = {"wald": (0, 0), "agresti-min": (2, 1), "bonett-price": (2, 2)}
"""Images that an interval of a paired difference adds, and how many of them are extreme."""


def paired_difference(
    first: np.ndarray,
    second: np.ndarray,
    most: float = 1.0,
    interval: str = "bonett-price",
    z: float = Z95,
) -> Estimate:
    """Return the mean of `first - second`, two values of each image, with its 95% interval.

    Added images give the interval a width where all differences agree; half of those at an extreme
    lie at `most`, half at `-most`, the others at 0.

    Args:
        first, second: bool or numbers of the same images in the same order, (n,).
        most: the largest difference possible.
        interval: a key of `ADDED`.
        z: half the width of the interval in standard errors.

    Source:
        Bonett and Price (2012), Agresti and Min (2005), for differences of proportions.

    Example:
        >>> paired_difference(np.array([1, 1, 1, 0]), np.array([0, 0, 1, 0])).value
        0.5
    """
    n, (added, extreme) = len(first), ADDED[interval]
    if n == 0:
        return UNDEFINED
    differences = np.subtract(first, second, dtype=float)
    value, total = float(differences.mean()), n + added
    centre = float(differences.sum()) / total
    square = (float(np.square(differences).sum()) + extreme * most**2) / total
    half = z * math.sqrt(max(0.0, square - centre**2) / total)
    low, high = min(value, centre - half), max(value, centre + half)
    return Estimate(value, max(-most, low), min(most, high), n)


DRAWS = 20_000


def simultaneous_differences(first: np.ndarray, second: np.ndarray) -> list[Estimate]:
    """Return the mean of each row of `first` minus that of `second`, on the same images.

    All intervals hold at once with 95%, so that the row with the largest difference may be picked
    afterwards. They are those of `paired_difference`, wider by the 95% quantile of the largest of
    k normal variables that are correlated as the differences are.

    Args:
        first: bool (k, n).
        second: bool (n,).

    Source:
        Hothorn, Bretz and Westfall (2008), the single-step procedure.

    Example:
        >>> base, changed = np.zeros(100, bool), np.tile(np.arange(100) < 50, (9, 1))
        >>> [round(each.low, 1) for each in simultaneous_differences(changed, base)][:2]
        [0.4, 0.4]
    """
    k, n = first.shape
    if k == 0 or n == 0:
        return [UNDEFINED] * k
    differences = np.subtract(first, second, dtype=float)
    added, extreme = ADDED["bonett-price"]
    centres = differences.sum(1) / (n + added)
    covariance = differences @ differences.T / (n + added) - np.outer(centres, centres)
    covariance += np.diag(np.full(k, extreme / (n + added)))
    deviation = np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(deviation, deviation))
    normal = np.random.default_rng(0).standard_normal((DRAWS, k))
    normal = normal * np.sqrt(values.clip(0)) @ vectors.T
    z = max(Z95, float(np.quantile(np.abs(normal).max(1), 0.95)))
    return [paired_difference(row, second, z=z) for row in first]


def difference(first: Rate, second: Rate) -> Estimate:
    """Return the difference of two rates of different images with its 95% interval.

    Source:
        Newcombe (1998), method 10: from the two Wilson intervals.

    Example:
        >>> far, near = rate(np.arange(50) < 33), rate(np.arange(50) < 31)
        >>> difference(far, near).low < 0 < difference(far, near).high
        True
    """
    value = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    n = first.n + second.n if first.n and second.n else 0
    return Estimate(value, value - below, value + above, n)


def ratio(first: Rate, second: Rate) -> Estimate:
    """Return the ratio of two rates of different images with its 95% interval.

    Half an image is added to successes and failures of both, so that no rate is 0 or 1.

    Source:
        Katz et al. 1978.

    Example:
        >>> few, many = rate(np.arange(200) < 20), rate(np.arange(200) < 100)
        >>> round(ratio(many, few).value, 1)
        4.9
    """
    logs, square = [], 0.0
    for each in (first, second):
        hits = each.value * each.n + 0.5
        logs.append(math.log(hits / (each.n + 1)))
        square += 1 / hits - 1 / (each.n + 1)
    value, half = logs[0] - logs[1], Z95 * math.sqrt(square)
    n = first.n + second.n
    return Estimate(math.exp(value), math.exp(value - half), math.exp(value + half), n)


def resamples(n: int, seed: int) -> Iterator[np.ndarray]:
    """Yield `RESAMPLES` draws of n images with replacement, in blocks (k, n)."""
    generator = np.random.default_rng(seed)
    block = max(1, 1_000_000 // n)
    for start in range(0, RESAMPLES, block):
        yield generator.integers(n, size=(min(block, RESAMPLES - start), n))


def percentiles(draws: np.ndarray) -> tuple[float, float]:
    """Return the ends of the 95% percentile interval of a bootstrap's values, (draws,).

    >>> percentiles(np.arange(1001))
    (25.0, 975.0)
    """
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def spearman(x: np.ndarray, y: np.ndarray, seed: int) -> Estimate:
    """Return Spearman's rank correlation of `x` and `y`; censored values are infinite and tie.

    It is not defined for fewer than three images, or if one of both is constant.

    Args:
        x, y: (n,).
        seed: seed of the bootstrap over images (percentile interval).
    """
    n = len(x)
    if n < 3 or not (_varies(x) and _varies(y)):
        return UNDEFINED
    draws = [_rank_correlation(x[sample], y[sample]) for sample in resamples(n, seed)]
    value = float(_rank_correlation(x[None], y[None])[0])
    return Estimate(value, *percentiles(np.concatenate(draws)), n)


def partial_spearman(x: np.ndarray, y: np.ndarray, given: np.ndarray, seed: int) -> Estimate:
    """Return the rank correlation of `x` and `y` that is left at equal ranks of `given`.

    It is the correlation of the ranks of `x` and `y` after a linear regression of both on the ranks
    of `given`. Censored values are infinite and tie.

    Args:
        x, y: (n,).
        given: what is kept equal, (n,) or (n, c).
        seed: seed of the bootstrap over images (percentile interval).

    Source:
        Conover 1999, section 5.4.

    Example:
        >>> x = np.arange(50) % 7
        >>> y, given = 2 * x + np.arange(50) % 3, np.arange(50) % 3
        >>> round(partial_spearman(x, y, given, seed=0).value, 2)
        1.0
    """
    from scipy.stats import rankdata

    columns = np.column_stack([x, y, given]).T
    n = columns.shape[1]
    if n < 3 + len(columns) or not all(map(_varies, columns)):
        return UNDEFINED
    values = []
    for sample in (np.arange(n)[None], *resamples(n, seed)):
        ranks = rankdata(columns[:, sample], axis=2)
        ranks -= ranks.mean(2, keepdims=True)
        precision = np.linalg.pinv(np.einsum("arn,brn->rab", ranks, ranks), hermitian=True)
        scale = np.sqrt(precision[:, 0, 0] * precision[:, 1, 1])
        values.append(-precision[:, 0, 1] / np.where(scale > 0, scale, 1.0))
    value, *draws = np.concatenate(values)
    low, high = percentiles(np.array(draws))
    # near 1 and -1 the draws lie on one side of the estimate
    return Estimate(float(value), float(min(low, value)), float(max(high, value)), n)


def _varies(values: np.ndarray) -> bool:
    """Return whether values differ; False if one is NaN."""
    return bool(np.any(values != values[0])) and not bool(np.isnan(values).any())


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of each row; 0 for a constant row."""
    from scipy.stats import rankdata

    a, b = rankdata(x, axis=1), rankdata(y, axis=1)
    a -= a.mean(1, keepdims=True)
    b -= b.mean(1, keepdims=True)
    norm = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.divide((a * b).sum(1), norm, out=np.zeros(len(a)), where=norm > 0)


def finite(value: SupportsFloat, digits: int = 6) -> float | None:
    """Return a JSON number with `digits` significant digits; None for infinity and NaN."""
    number = float(value)
    return float(f"{number:.{digits}g}") if math.isfinite(number) else None
