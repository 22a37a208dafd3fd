"""Risk: how well distance, margin and density tell which images an attack will break."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scotoma.utils.stats import RESAMPLES, Z95, Estimate

FOLDS = 5
FEWEST = 20
"""Successes and failures below which nothing is fitted."""
STEPS = 200
LONGEST_STEP = 1.0


@dataclass(frozen=True)
class Logistic:
    """Log odds of an outcome, linear in standardised inputs; `coefficients` (p + 1,) begin with the intercept."""

    mean: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    covariance: np.ndarray
    n: int

    @classmethod
    def fit(cls, inputs: np.ndarray, outcome: np.ndarray) -> Logistic:
        """Logistic regression with the penalty of Firth (1993), which takes away the bias of few events and keeps the estimate
        finite where an input separates the outcomes.

        Args:
            inputs: (n, p).
            outcome: bool (n,), with both values in it.
        """
        from scipy.special import expit

        mean, scale = inputs.mean(0), inputs.std(0)
        scale = np.where(scale > 0, scale, 1.0)
        design = np.column_stack([np.ones(len(inputs)), (inputs - mean) / scale])
        coefficients = np.zeros(design.shape[1])
        covariance = np.zeros((design.shape[1],) * 2)
        for _ in range(STEPS):
            chance = expit(design @ coefficients)
            weight = chance * (1 - chance)
            covariance = np.linalg.pinv((design * weight[:, None]).T @ design, hermitian=True)
            leverage = weight * np.einsum("ij,jk,ik->i", design, covariance, design)
            step = covariance @ (design.T @ (outcome - chance + leverage * (0.5 - chance)))
            step *= min(1.0, LONGEST_STEP / max(abs(step).max(), LONGEST_STEP))
            coefficients = coefficients + step
            if abs(step).max() < 1e-8:
                break
        return cls(mean, scale, coefficients, covariance, len(inputs))

    def log_odds(self, inputs: np.ndarray) -> np.ndarray:
        """(n,) for inputs (n, p)."""
        return self.coefficients[0] + (inputs - self.mean) / self.scale @ self.coefficients[1:]

    def slopes(self) -> list[Estimate]:
        """Of each input: the change of the log odds for a change by one standard deviation, with Wald's interval."""
        half = Z95 * np.sqrt(np.diag(self.covariance))
        ends = zip(self.coefficients[1:], half[1:], strict=True)
        return [
            Estimate(float(value), float(value - by), float(value + by), self.n)
            for value, by in ends
        ]


def auroc(
    positives: np.ndarray, negatives: np.ndarray, seed: int, *, paired: bool = False
) -> Estimate:
    """Area under the ROC curve: the chance that a positive scores higher than a negative, ties counting half.

    Args:
        positives, negatives: scores, finite.
        seed: of the bootstrap (percentile interval).
        paired: both are scores of the same images, which are then drawn together.
    """
    return _interval(
        _areas(positives, negatives, seed, paired),
        len(positives) if paired else len(positives) + len(negatives),
    )


def _areas(
    positives: np.ndarray, negatives: np.ndarray, seed: int, paired: bool = False
) -> np.ndarray:
    """The area, then that of each resample. The same numbers of images and the same seed draw the same images."""
    generator = np.random.default_rng(seed)
    order = negatives.argsort()
    below, up_to = (
        np.searchsorted(negatives, positives, side, sorter=order) for side in ("left", "right")
    )
    areas = np.empty(1 + RESAMPLES)
    ups, downs = np.ones(len(positives)), np.ones(len(negatives))
    for i in range(len(areas)):
        if i:
            ups = _resample(generator, len(positives))
            downs = ups if paired else _resample(generator, len(negatives))
        mass = np.concatenate([[0.0], downs[order].cumsum()])
        areas[i] = ups @ (mass[below] + mass[up_to]) / (2 * ups.sum() * downs.sum())
    return areas


def _resample(generator: np.random.Generator, n: int) -> np.ndarray:
    """How often each of n is drawn in n draws."""
    return np.bincount(generator.integers(n, size=n), minlength=n).astype(float)


def _interval(values: np.ndarray, n: int) -> Estimate:
    """The first value with the interval of the others."""
    value = float(values[0])
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Estimate(value, min(value, float(low)), max(value, float(high)), n)


class Risk(NamedTuple):
    """Areas under the ROC curve for telling which images fall."""

    scores: dict[str, Estimate]
    """Of "risk", "margin", "distance" and "density"."""
    gain: Estimate
    """Of risk over margin, on the same resamples."""


def risk(
    distance: np.ndarray, margin: np.ndarray, density: np.ndarray, fell: np.ndarray, seed: int
) -> Risk | None:
    """How well success of the attack is told from each score alone and from all three together.

    The joint score is a logistic regression; an image's score comes from a fit without its fold (stratified, seeded). Alone,
    each score counts by its known sign: far from the training data, near the decision boundary, in thin density.

    Args:
        distance, margin, density: (n,); images for which one is not finite are left out.
        fell: bool (n,), whether the attack succeeded.
        seed: of folds and bootstrap.

    Returns:
        None with fewer than `FEWEST` successes or failures.
    """
    from sklearn.model_selection import StratifiedKFold

    inputs = np.column_stack([distance, -margin, -density])
    usable = np.isfinite(inputs).all(1)
    inputs, fell = inputs[usable], fell[usable]
    if min(fell.sum(), (~fell).sum()) < FEWEST:
        return None
    joint = np.empty(len(fell))
    for learnt, held_out in StratifiedKFold(FOLDS, shuffle=True, random_state=seed % 2**32).split(
        inputs, fell
    ):
        joint[held_out] = Logistic.fit(inputs[learnt], fell[learnt]).log_odds(inputs[held_out])
    scores = {
        "risk": joint,
        "margin": inputs[:, 1],
        "distance": inputs[:, 0],
        "density": inputs[:, 2],
    }
    areas = {name: _areas(score[fell], score[~fell], seed) for name, score in scores.items()}
    return Risk(
        {name: _interval(values, len(fell)) for name, values in areas.items()},
        _interval(areas["risk"] - areas["margin"], len(fell)),
    )
