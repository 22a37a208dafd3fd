"""Rates of a whole test set, from images that were drawn more often where the outcome is uncertain.

The images are divided into strata by a score that is known of all of them. Within a stratum every
image is as likely to be drawn as any other, so that the estimate is right whatever the score is
worth; a good score makes its interval narrow.
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
"""Images at the overall rate that are added to those seen of a stratum before more are drawn, so
that the luck of the first draws decides little."""
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
    new, number, held = np.zeros(len(counts), int), 0, 0
    for old, count in enumerate(counts):
        new[old] = number
        held += count
        if held >= FEWEST:
            number, held = number + 1, 0
    if held and number:  # the last ones join those before
        new[new == number] = number - 1
    return np.minimum(new, max(number - 1, 0))[stratum]


def stratified_rate(sizes: np.ndarray, drawn: np.ndarray, hits: np.ndarray, of: int = 1) -> Rate:
    """Return a rate over all images of all strata with its 95% interval.

    The upper end is the largest rate that a score test does not reject. The variance is that of the
    strata's rates that are likeliest if the tested rate is true, so that a stratum in which no hit
    was drawn counts with the hits that it may hide; with one stratum it is Wilson's. The lower end
    joins the exact lower limits of the strata, since a single hit of a large stratum moves the
    estimate more often than a normal distribution says. Of rates above a half the misses, which are
    rarer, are estimated so. Strata of which all images were drawn are known.

    Args:
        sizes: images of each stratum, (k,).
        drawn: images drawn of each, at least one, (k,).
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
    sizes, drawn, hits = (np.asarray(each, float) for each in (sizes, drawn, hits))
    n, total = int(drawn.sum()), sizes.sum()
    if not total:
        return Rate(math.nan, math.nan, math.nan, 0)
    value = min(1.0, float((sizes / total * hits / drawn).sum()))
    if not (drawn < sizes).any():
        return Rate(value, value, value, n)
    if value > 0.5:
        high, low = (1 - end for end in _ends(sizes, drawn, drawn - hits, of))
    else:
        low, high = _ends(sizes, drawn, hits, of)
    return Rate(value, min(low, value), max(high, value), n)


def _ends(sizes: np.ndarray, drawn: np.ndarray, hits: np.ndarray, of: int) -> tuple[float, float]:
    """Return the ends of the interval of a rate up to a half, of strata that are not all known."""
    weight, left = sizes / sizes.sum(), drawn < sizes
    value = float((weight * hits / drawn).sum())
    known = float((weight * hits / drawn)[~left].sum())
    weight, drawn, hits = weight[left], drawn[left], hits[left]
    spread = weight**2 * ((sizes[left] - drawn) / (sizes[left] - 1)) / drawn
    low = value - math.sqrt(float((spread * drawn * _below(drawn, hits, of) ** 2).sum()))
    few, many, z = -14.0, 14.0, z_of(of)
    for _ in range(HALVINGS):
        middle = (few + many) / 2
        rates = _likeliest(drawn.sum() * math.exp(middle), drawn, hits, weight)
        away = known + float((weight * rates).sum()) - value
        rejected = away > z * math.sqrt(float((spread * rates * (1 - rates)).sum()))
        few, many = (few, middle) if rejected else (middle, many)
    rates = _likeliest(drawn.sum() * math.exp(few), drawn, hits, weight)
    high = known + float((weight * rates).sum())
    return max(known, low), min(1.0, max(high, value))


def _below(drawn: np.ndarray, hits: np.ndarray, of: int) -> np.ndarray:
    """Return how far below each stratum's rate its exact lower limit lies."""
    from scipy.special import betaincinv

    low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), drawn - hits + 1, 0.025 / of), 0.0)
    return hits / drawn - low


def _likeliest(pull: float, drawn: np.ndarray, hits: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the strata's likeliest rates if the overall rate is pulled up.

    They solve (drawn - hits) / (1 - p) - hits / p = pull * weight.
    """
    a = -pull * weight
    b = drawn + a
    root = np.sqrt(np.maximum(b * b - 4 * a * hits, 0.0))
    with np.errstate(invalid="ignore"):  # two forms of the solution, each exact where it is used
        return np.clip(np.where(b > 0, 2 * hits / (b + root), (b - root) / (2 * a)), 0.0, 1.0)


def next_draws(sizes: np.ndarray, drawn: np.ndarray, hits: np.ndarray, number: int) -> np.ndarray:
    """Return how many more images to draw of each stratum, int (k,), so that the interval narrows.

    In proportion to the size of a stratum times the spread of its outcomes (see `CAUTION`).

    Args:
        sizes, drawn, hits: as for `stratified_rate`; `drawn` may be 0.
        number: images to draw in all.

    Source:
        Neyman (1934).

    >>> next_draws(np.array([900, 100]), np.array([20, 20]), np.array([0, 10]), 40).tolist()
    [40, 0]
    """
    left = sizes - drawn
    rates = _cautious(drawn, hits)
    wish = np.where(left > 0, sizes * np.sqrt(rates * (1 - rates)), 0.0)
    more, number = np.zeros(len(sizes), int), int(min(number, left.sum()))
    while (missing := number - more.sum()) > 0:
        open_ = np.where(left > more, wish, 0.0)
        ideal = open_ / open_.sum() * (drawn.sum() + number)
        gap = np.where(open_ > 0, np.maximum(ideal - drawn - more, 1e-9), 0.0)
        step = np.floor(gap / gap.sum() * missing).astype(int)
        if not step.sum():
            step[np.argsort(-gap, kind="stable")[:missing]] = 1
        more = np.minimum(more + step, left)
    return more


def draws_for(
    sizes: np.ndarray, drawn: np.ndarray, hits: np.ndarray, precision: float
) -> np.ndarray:
    """Return how many more images to draw of each stratum for an interval of +- `precision`.

    They are planned at once from what was seen so far. Looking after every image, and stopping once
    the interval is narrow, would stop where few hits happened to be drawn.

    Args:
        sizes, drawn, hits: as for `next_draws`.
        precision: half of the width of the interval, above 0.

    >>> draws_for(np.array([900, 100]), np.array([20, 20]), np.array([0, 10]), 0.04).tolist()
    [177, 12]
    """
    weight, rates = sizes / sizes.sum(), _cautious(drawn, hits)

    def half(more: np.ndarray) -> float:
        n = np.maximum(drawn + more, 1)
        spread = weight**2 * (1 - n / np.maximum(sizes, n)) * rates * (1 - rates) / n
        return Z95 * math.sqrt(float(spread.sum()))

    few, many = 0, int((sizes - drawn).sum())
    while many - few > 1:
        middle = (few + many) // 2
        enough = half(next_draws(sizes, drawn, hits, middle)) <= precision
        few, many = (few, middle) if enough else (middle, many)
    return next_draws(sizes, drawn, hits, many)


def _cautious(drawn: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Return the strata's rates, drawn towards the overall one where few images were drawn."""
    overall = (hits.sum() + 1) / (drawn.sum() + 2)
    return (hits + CAUTION * overall) / (drawn + CAUTION)
