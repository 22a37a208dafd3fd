"""Rates of a whole test set from a sample that is denser where the outcome is uncertain.

The images are divided into strata by a score that is known for all of them. Within a stratum every
image is equally likely to be drawn, so the estimate is unbiased for any score. A good score makes
its interval narrow.
"""

from __future__ import annotations

import math

import numpy as np

from scotoma.utils.stats import Z95, Rate, z_of

SHARES = (0.025, 0.05, 0.1, 0.2, 0.35, 0.6, 1.0)
"""Ends of the strata as shares of the images in the order of the score: fine where images are about
to be fooled, coarse where hardly any are."""
FEWEST = 3
"""Images drawn of a stratum below which it joins its neighbour."""
CAUTION = 20
"""Images at the overall rate that are added to those drawn from a stratum before more are planned,
so that the luck of the first draws decides little."""
HALVINGS = 60


def strata_of(score: np.ndarray) -> np.ndarray:
    """Return the stratum of each image by the rank of its score, int (n,), from 0.

    Args:
        score: (n,), small where an image is likely to be fooled.

    >>> np.bincount(strata_of(np.arange(1000.0))).tolist()
    [25, 25, 50, 100, 150, 250, 400]
    """
    rank = np.argsort(np.argsort(score, kind="stable"), kind="stable")
    return np.searchsorted(np.array(SHARES) * len(score), rank + 0.5)


def joined(stratum: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return strata of which at least `FEWEST` images were drawn, made of neighbours.

    Args:
        stratum: int (n,), from `strata_of`.
        drawn: whether each image was drawn, bool (n,).

    >>> joined(np.array([0, 0, 1, 1, 1, 2, 2]), np.array([1, 0, 1, 1, 1, 1, 0], bool)).tolist()
    [0, 0, 0, 0, 0, 0, 0]
    """
    counts = np.bincount(stratum[drawn], minlength=stratum.max(initial=0) + 1)
    new, number, total = np.zeros(len(counts), int), 0, 0
    for old, count in enumerate(counts):
        new[old] = number
        total += count
        if total >= FEWEST:
            number, total = number + 1, 0
    if total and number:  # the last strata join the one before
        new[new == number] = number - 1
    return np.minimum(new, max(number - 1, 0))[stratum]


def stratified_rate(sizes: np.ndarray, draws: np.ndarray, hits: np.ndarray, of: int = 1) -> Rate:
    """Return a rate over all images of all strata with its 95% interval.

    The upper end is the largest rate that a score test does not reject. Its variance is that of the
    strata's likeliest rates if the tested rate is true, so a stratum in which no hit was drawn
    counts with the hits that it may hide. With one stratum the upper end is Wilson's. The lower end
    joins the exact lower limits of the strata, since a single hit in a large stratum changes the
    estimate more often than a normal distribution predicts. For rates above a half, the misses,
    which are rarer, are estimated in this way. Strata of which all images were drawn are known.

    Args:
        sizes: images of each stratum, (k,).
        draws: images drawn of each, at least one, (k,).
        hits: hits among them, (k,).
        of: number of intervals that hold at once with 95% (Bonferroni).

    Returns:
        The rate; `n` is the number of images drawn.

    Source:
        Miettinen and Nurminen (1985) for the score test under constrained maximum likelihood;
        Zou and Donner (2008) for joining limits; Clopper and Pearson (1934) for exact ones; Cochran
        (1977), section 5.5, for finite populations.

    >>> print(stratified_rate(np.array([9_000, 1_000]), np.array([90, 110]), np.array([0, 55])))
    5.0% (4.1%-8.6%, n = 200)
    """
    sizes, draws, hits = (np.asarray(each, float) for each in (sizes, draws, hits))
    n, total = int(draws.sum()), sizes.sum()
    if not total:
        return Rate(math.nan, math.nan, math.nan, 0)
    value = min(1.0, float((sizes / total * hits / draws).sum()))
    if not (draws < sizes).any():
        return Rate(value, value, value, n)
    if value > 0.5:
        high, low = (1 - end for end in _ends(sizes, draws, draws - hits, of))
    else:
        low, high = _ends(sizes, draws, hits, of)
    return Rate(value, min(low, value), max(high, value), n)


def _ends(sizes: np.ndarray, draws: np.ndarray, hits: np.ndarray, of: int) -> tuple[float, float]:
    """Return the ends of the interval of a rate up to a half, of strata that are not all known."""
    weight, sampled = sizes / sizes.sum(), draws < sizes
    value = float((weight * hits / draws).sum())
    exact = float((weight * hits / draws)[~sampled].sum())
    weight, draws, hits = weight[sampled], draws[sampled], hits[sampled]
    spread = weight**2 * ((sizes[sampled] - draws) / (sizes[sampled] - 1)) / draws
    low = value - math.sqrt(float((spread * draws * _below(draws, hits, of) ** 2).sum()))
    lower, upper, z = -14.0, 14.0, z_of(of)
    for _ in range(HALVINGS):
        middle = (lower + upper) / 2
        rates = _likeliest(draws.sum() * math.exp(middle), draws, hits, weight)
        excess = exact + float((weight * rates).sum()) - value
        rejected = excess > z * math.sqrt(float((spread * rates * (1 - rates)).sum()))
        lower, upper = (lower, middle) if rejected else (middle, upper)
    rates = _likeliest(draws.sum() * math.exp(lower), draws, hits, weight)
    high = exact + float((weight * rates).sum())
    return max(exact, low), min(1.0, max(high, value))


def _below(draws: np.ndarray, hits: np.ndarray, of: int) -> np.ndarray:
    """Return how far below each stratum's rate its exact lower limit lies."""
    from scipy.special import betaincinv

    low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), draws - hits + 1, 0.025 / of), 0.0)
    return hits / draws - low


def _likeliest(pull: float, draws: np.ndarray, hits: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the strata's likeliest rates if the overall rate is pulled up.

    They solve (draws - hits) / (1 - p) - hits / p = pull * weight.
    """
    a = -pull * weight
    b = draws + a
    root = np.sqrt(np.maximum(b * b - 4 * a * hits, 0.0))
    with np.errstate(invalid="ignore"):  # two forms of the solution, each exact where it is used
        return np.clip(np.where(b > 0, 2 * hits / (b + root), (b - root) / (2 * a)), 0.0, 1.0)


def next_draws(sizes: np.ndarray, draws: np.ndarray, hits: np.ndarray, number: int) -> np.ndarray:
    """Return how many more images to draw of each stratum, int (k,), so that the interval narrows.

    In proportion to the size of a stratum times the spread of its outcomes (see `CAUTION`).

    Args:
        sizes, draws, hits: as for `stratified_rate`; `draws` may be 0.
        number: images to draw in all.

    Source:
        Neyman (1934).

    >>> next_draws(np.array([900, 100]), np.array([20, 20]), np.array([0, 10]), 40).tolist()
    [40, 0]
    """
    remaining = sizes - draws
    rates = _cautious(draws, hits)
    wish = np.where(remaining > 0, sizes * np.sqrt(rates * (1 - rates)), 0.0)
    more, number = np.zeros(len(sizes), int), int(min(number, remaining.sum()))
    while (missing := number - more.sum()) > 0:
        open_ = np.where(remaining > more, wish, 0.0)
        ideal = open_ / open_.sum() * (draws.sum() + number)
        gap = np.where(open_ > 0, np.maximum(ideal - draws - more, 1e-9), 0.0)
        step = np.floor(gap / gap.sum() * missing).astype(int)
        if not step.sum():
            step[np.argsort(-gap, kind="stable")[:missing]] = 1
        more = np.minimum(more + step, remaining)
    return more


def draws_for(
    sizes: np.ndarray, draws: np.ndarray, hits: np.ndarray, precision: float
) -> np.ndarray:
    """Return how many more images to draw of each stratum for an interval of +- `precision`.

    All are planned at once from the draws so far. A rule that stops at the first image with a
    narrow interval would stop where few hits happened to be drawn.

    Args:
        sizes, draws, hits: as for `next_draws`.
        precision: half of the width of the interval, above 0.

    >>> draws_for(np.array([900, 100]), np.array([20, 20]), np.array([0, 10]), 0.04).tolist()
    [177, 12]
    """
    weight, rates = sizes / sizes.sum(), _cautious(draws, hits)

    def half(more: np.ndarray) -> float:
        n = np.maximum(draws + more, 1)
        spread = weight**2 * (1 - n / np.maximum(sizes, n)) * rates * (1 - rates) / n
        return Z95 * math.sqrt(float(spread.sum()))

    lower, upper = 0, int((sizes - draws).sum())
    while upper - lower > 1:
        middle = (lower + upper) // 2
        enough = half(next_draws(sizes, draws, hits, middle)) <= precision
        lower, upper = (lower, middle) if enough else (middle, upper)
    return next_draws(sizes, draws, hits, upper)


def _cautious(draws: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Return the strata's rates, shrunk towards the overall rate where few images were drawn."""
    overall = (hits.sum() + 1) / (draws.sum() + 2)
    return (hits + CAUTION * overall) / (draws + CAUTION)
