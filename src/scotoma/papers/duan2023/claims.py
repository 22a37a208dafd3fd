"""The paper's claims about a sweep, as comparisons on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np

from scotoma.attribution.colour import COLOURS
from scotoma.attribution.noise import TYPES
from scotoma.papers.checks import Check, Side, decided, larger, more_errors, of_resamples
from scotoma.papers.duan2023 import published
from scotoma.papers.duan2023.examination import Measurements, Models
from scotoma.utils.stats import RESAMPLES, Estimate


def of_sweep(models: Models) -> list[Check]:
    """Return all claims, for models from natural training to the largest size."""
    first, *_, last = models
    pairs = [*pairwise(models), *([(first, last)] if len(models) > 2 else [])]
    natural, robust, ends = models[first], models[last], f"{first}, {last}"
    return [
        *(unequal(models, *pair, over) for over in published.FITS for pair in pairs),
        *guided(robust, last),
        *gap(natural, robust, ends),
        *odds_gap(natural, robust, ends),
        *covered(robust, last),
        *exposed(natural, robust, ends),
    ]


def unequal(models: Models, low: str, high: str, over: str = "global", where: str = "") -> Check:
    """Attribution is more unequal after training at the larger size."""
    convention = published.FITS[over]
    claim = f"the {over} Gini coefficient ({convention}) is larger after training at a larger size"
    first, second = ((eps, models[eps].gini(over, convention)) for eps in (high, low))
    return larger(claim, where or f"{low}, {high}", first, second)


def guided(model: Measurements, where: str) -> Iterator[Check]:
    """Noise does most where the map says."""
    for kind in TYPES:
        claim = (
            f"noise of type {kind} on the {model.middle} most important values makes more errors "
            "than on as many at random"
        )
        sides = ("important", model.noise(kind)), ("random", model.noise(kind, "random"))
        yield more_errors(claim, where, *sides)


def added(name: str, model: Measurements, kind: str) -> Side:
    """Return the errors that importance adds under noise, in [-1, 1]."""
    return name, model.noise(kind) - model.noise(kind, "random")


def gap(natural: Measurements, robust: Measurements, where: str) -> Iterator[Check]:
    """Importance matters more to the robust model."""
    for kind in TYPES:
        claim = f"importance adds more errors under noise of type {kind} after adversarial training"
        sides = added("robust", robust, kind), added("natural", natural, kind)
        yield larger(claim, where, *sides, most=2.0)


def odds_gap(natural: Measurements, robust: Measurements, where: str) -> Iterator[Check]:
    """Importance multiplies the odds of an error more for the robust model.

    A difference of rates shrinks where errors are rare or the rule; the ratio of odds does not.
    """
    for kind in TYPES:
        claim = (
            f"importance multiplies the odds of an error under noise of type {kind} more after "
            "adversarial training (difference of logarithms)"
        )
        logs = [log_odds(m.noise(kind), m.noise(kind, "random")) for m in (robust, natural)]
        names = ("robust, odds ratio", "natural, odds ratio")
        first, second = ((n, np.exp(each[0])) for n, each in zip(names, logs, strict=True))
        yield decided(claim, where, first, second, of_resamples(logs[0] - logs[1], len(robust)))


def log_odds(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the log odds ratio of two error rates, then those of resamples of the images.

    Half an image is added to errors and to correct predictions (Haldane 1956).

    Args:
        first, second: errors of the same images, or shares of draws, (n,).
    """
    n = len(first)
    resamples = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    errors = np.stack([first, second]) @ np.vstack([np.ones(n), resamples]).T
    odds = np.log(errors + 0.5) - np.log(n - errors + 0.5)
    return odds[0] - odds[1]


def odds_ratio(first: np.ndarray, second: np.ndarray) -> Estimate:
    """Return the odds ratio of two error rates of the same images, with a bootstrap interval."""
    *logs, n = of_resamples(log_odds(first, second), len(first))
    value, low, high = np.exp(logs).tolist()
    return Estimate(value, low, high, n)


def covered(model: Measurements, where: str) -> Iterator[Check]:
    """Squares do more over important places than over random ones."""
    claim = "squares over important places make more errors than over random ones"
    for cover, description in _covers(model, where):
        errors = model.occlusion(*cover), model.occlusion(*cover, "random")
        yield more_errors(claim, description, ("important", errors[0]), ("random", errors[1]))


def exposed(natural: Measurements, robust: Measurements, where: str) -> Iterator[Check]:
    """Squares over important places do more to the robust model."""
    claim = "squares over important places make more errors after adversarial training"
    for cover, description in _covers(robust, where):
        sides = ("robust", robust.occlusion(*cover)), ("natural", natural.occlusion(*cover))
        yield more_errors(claim, description, *sides)


def _covers(model: Measurements, where: str) -> Iterator[tuple[tuple[int, str], str]]:
    for (number, setting), colour in product(enumerate(model.settings), COLOURS):
        yield (number, colour), f"{where}, {squares(*setting)}, {colour}"


def squares(regions: int, radius: int) -> str:
    """Return a setting of occlusion in words."""
    return f"up to {regions} square{'s' if regions > 1 else ''} of {2 * radius}x{2 * radius}"
