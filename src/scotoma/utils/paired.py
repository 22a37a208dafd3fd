"""Tests of differences on the same images, and the correction for several of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scotoma.utils.stats import UNDEFINED, Estimate, resamples


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Return the exact two-sided p of McNemar's test: do two rates on the same images differ?

    Args:
        first, second: the same images in the same order, bool (n,).

    Source:
        McNemar (1947), with the binomial distribution of the images on which the two disagree.

    Example:
        >>> mcnemar(np.array([1, 1, 1, 0], bool), np.array([0, 0, 0, 0], bool))
        0.25
    """
    from scipy.stats import binomtest

    more, disagree = int((first & ~second).sum()), int((first != second).sum())
    return float(binomtest(more, disagree).pvalue) if disagree else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, in the same order.

    Source:
        Holm (1979): the chance of any false alarm is at most the level at which they are read.

    Example:
        >>> holm([0.01, 0.5, 0.02])
        [0.03, 0.5, 0.04]
    """
    corrected, largest = [1.0] * len(p), 0.0
    for rank, position in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[position]))
        corrected[position] = largest
    return corrected


def median_difference(first: np.ndarray, second: np.ndarray, seed: int, of: int = 1) -> Estimate:
    """Return the median of `first` minus that of `second`, with a paired bootstrap interval.

    Images are drawn again with both their values. The medians are lower medians and may be
    infinite; where both are, neither was reached and they count as equal.

    Args:
        first, second: sizes of the same images in the same order, (n,).
        seed: seed of the draws.
        of: number of intervals that hold at once with 95% (Bonferroni).

    Example:
        >>> sizes = np.arange(101.0)
        >>> median_difference(sizes + 0.25, sizes, seed=0)[:3]
        (0.25, 0.25, 0.25)
    """
    n = len(first)
    if n == 0:
        return UNDEFINED
    sizes, middle = np.stack([first, second]).astype(float), (n - 1) // 2

    def differences(values: np.ndarray) -> np.ndarray:
        upper, lower = np.partition(values, middle, axis=-1)[..., middle]
        equal = upper == lower  # also where both are infinite
        return np.subtract(upper, lower, out=np.zeros_like(upper), where=~equal)

    draws = [differences(sizes[:, sample]) for sample in resamples(n, seed)]
    ends = [0.025 / of, 1 - 0.025 / of]
    low, high = np.quantile(np.concatenate(draws), ends, method="inverted_cdf")
    return Estimate(float(differences(sizes)), float(low), float(high), n)
