"""The paper's claims about a sweep, as comparisons on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from scotoma.attribution.colour import COLOURS
from scotoma.attribution.noise import TYPES
from scotoma.papers.checks import Check, decided, larger, more_errors, of_resamples, wider_gap
from scotoma.papers.duan2023 import published
from scotoma.papers.duan2023.examination import Measured, Models
from scotoma.results.finding import Row
from scotoma.utils.stats import RESAMPLES, Estimate


def of_sweep(models: Models) -> list[Check]:
    """Return all claims, for models from natural training to the largest size."""
    first, last = ends(models)
    pairs = [*pairwise(models), *([(first, last)] if len(models) > 2 else [])]
    natural, robust, both = models[first], models[last], f"{first}, {last}"
    return [
        *(unequal(models, *pair, over) for over in published.FITS for pair in pairs),
        *guided(robust, last),
        *gap(natural, robust, both),
        *odds_gap(natural, robust, both),
        *covered(robust, last),
        *exposed(natural, robust, both),
    ]


def ends(models: Models) -> tuple[str, str]:
    """Return the names of natural training and of training at the largest size."""
    first, *_, last = models
    return first, last


def unequal(models: Models, low: str, high: str, over: str = "global", where: str = "") -> Check:
    """Attribution is more unequal after training at the larger size."""
    convention = published.FITS[over]
    claim = f"the {over} Gini coefficient ({convention}) is larger after training at a larger size"
    first, second = ((eps, models[eps].gini(over, convention)) for eps in (high, low))
    return larger(claim, {"where": where or f"{low}, {high}"}, first, second)


def guided(model: Measured, where: str) -> Iterator[Check]:
    """Noise does most where the map says."""
    for kind in TYPES:
        claim = (
            f"noise of type {kind} on the {model.middle} most important values makes more errors "
            "than on as many at random"
        )
        first = ("important", model.noise(kind))
        yield more_errors(claim, {"where": where}, first, ("random", model.noise(kind, "random")))


def gap(natural: Measured, robust: Measured, where: str) -> Iterator[Check]:
    """Importance matters more to the robust model."""
    for kind in TYPES:
        claim = f"importance adds more errors under noise of type {kind} after adversarial training"
        wide, narrow = by_order("robust", robust, kind), by_order("natural", natural, kind)
        yield wider_gap(claim, {"where": where}, wide, narrow)


def odds_gap(natural: Measured, robust: Measured, where: str) -> Iterator[Check]:
    """Importance multiplies the odds of an error more for the robust model.

    A difference of rates shrinks where errors are rare or the rule; the ratio of odds does not.
    """
    for kind in TYPES:
        logs = [log_odds(m.noise(kind), m.noise(kind, "random")) for m in (robust, natural)]
        ratios = [float(np.exp(each[0])) for each in logs]
        difference = of_resamples(logs[0] - logs[1], len(robust))
        claim = (
            f"importance multiplies the odds of an error under noise of type {kind} more after "
            "adversarial training (difference of logarithms)"
        )
        sides = ("robust, odds ratio", ratios[0]), ("natural, odds ratio", ratios[1])
        yield decided(claim, {"where": where}, *sides, difference)


def log_odds(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the log odds ratio of two error rates, then those of resamples of the images.

    Half an image is added to errors and to correct predictions (Haldane 1956).

    Args:
        first, second: errors of the same images, or shares of draws, (n,).
    """
    n = len(first)
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    weights = np.vstack([np.ones(n), drawn])
    of_first, of_second = (
        np.log(wrong + 0.5) - np.log(n - wrong + 0.5)
        for wrong in (weights @ first, weights @ second)
    )
    return of_first - of_second


def odds_ratio(first: np.ndarray, second: np.ndarray) -> Estimate:
    """Return the odds ratio of two error rates of the same images, with a bootstrap interval."""
    logs = of_resamples(log_odds(first, second), len(first))
    value, low, high = (float(np.exp(each)) for each in (logs.value, logs.low, logs.high))
    return Estimate(value, low, high, logs.n)


def by_order(name: str, model: Measured, kind: str) -> tuple[str, np.ndarray, np.ndarray]:
    """Return errors under noise on important and on random values."""
    return name, model.noise(kind), model.noise(kind, "random")


def covered(model: Measured, where: str) -> Iterator[Check]:
    """Squares do more over important places than over random ones."""
    claim = "squares over important places make more errors than over random ones"
    for setting, colour, place in _covers(model, where):
        a, b = (model.occlusion(setting, colour, order) for order in ("importance", "random"))
        yield more_errors(claim, place, ("important", a), ("random", b))


def exposed(natural: Measured, robust: Measured, where: str) -> Iterator[Check]:
    """Squares over important places do more to the robust model."""
    claim = "squares over important places make more errors after adversarial training"
    for setting, colour, place in _covers(robust, where):
        a, b = (model.occlusion(setting, colour) for model in (robust, natural))
        yield more_errors(claim, place, ("robust", a), ("natural", b))


def _covers(model: Measured, where: str) -> Iterator[tuple[int, str, Row]]:
    for number, setting in enumerate(model.settings):
        for colour in COLOURS:
            yield number, colour, {"where": f"{where}, {squares(*setting)}, {colour}"}


def squares(regions: int, radius: int) -> str:
    """Return a setting of occlusion in words."""
    return f"up to {regions} square{'s' if regions > 1 else ''} of {2 * radius}x{2 * radius}"
