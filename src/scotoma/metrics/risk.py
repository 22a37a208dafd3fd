"""Risk: how well distance, margin and density predict which images an attack will break."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scotoma.utils.stats import RESAMPLES, Z95, Estimate, percentiles

FOLDS = 5
FEWEST = 20
"""Successes and failures that a fit needs."""
STEPS = 200
LONGEST_STEP = 1.0


@dataclass(frozen=True)
class Logistic:
    """Log odds of an outcome, linear in standardised inputs.

    `coefficients` (p + 1,) begin with the intercept.
    """

    mean: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    covariance: np.ndarray
    n: int

    @classmethod
    def fit(cls, inputs: np.ndarray, outcome: np.ndarray) -> Logistic:
        """Fit a logistic regression with the penalty of Firth (1993).

        The penalty removes the bias of few events and keeps the estimate finite where an input
        separates the outcomes.

        Args:
            inputs: (n, p).
            outcome: bool (n,), with both values present.
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
        """Return the log odds (n,) for inputs (n, p)."""
        return self.coefficients[0] + (inputs - self.mean) / self.scale @ self.coefficients[1:]

    def slopes(self) -> list[Estimate]:
        """Return the change of the log odds for one standard deviation of each input (Wald)."""
        half = Z95 * np.sqrt(np.diag(self.covariance))
        ends = zip(self.coefficients[1:], half[1:], strict=True)
        return [
            Estimate(float(value), float(value - width), float(value + width), self.n)
            for value, width in ends
        ]


def auroc(
    positives: np.ndarray, negatives: np.ndarray, seed: int, *, paired: bool = False
) -> Estimate:
    """Return the area under the ROC curve, with a bootstrap interval (percentile).

    It is the chance that a positive scores higher than a negative; ties count half.

    Args:
        positives, negatives: scores, finite.
        seed: seed of the bootstrap.
        paired: both are scores of the same images, which are then drawn together.

    >>> auroc(np.array([2.0, 3.0]), np.array([0.0, 1.0, 2.0]), seed=0).value
    0.9166666666666666
    """
    n = len(positives) if paired else len(positives) + len(negatives)
    return _interval(_areas(positives, negatives, seed, paired), n)


def _areas(
    positives: np.ndarray, negatives: np.ndarray, seed: int, paired: bool = False
) -> np.ndarray:
    """Return the area, then that of each resample; equal sizes and seeds draw equal images."""
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
    """Return how often each of n is drawn in n draws."""
    return np.bincount(generator.integers(n, size=n), minlength=n).astype(float)


def _interval(values: np.ndarray, n: int) -> Estimate:
    """Return the first value with the interval of the others."""
    value = float(values[0])
    low, high = percentiles(values[1:])
    return Estimate(value, min(value, low), max(value, high), n)


class Risk(NamedTuple):
    """Areas under the ROC curve for predicting which images an attack breaks."""

    scores: dict[str, Estimate]
    """Areas of "risk", "margin", "distance" and "density"."""
    gain: Estimate
    """Area of risk minus that of margin, on the same resamples."""


def risk(
    distance: np.ndarray, margin: np.ndarray, density: np.ndarray, fooled: np.ndarray, seed: int
) -> Risk | None:
    """Measure how well each score alone, and all three together, predict success of the attack.

    The joint score is a logistic regression; the score of an image comes from a fit without its
    fold (stratified, seeded). Alone, each score has its known sign: far from the training data,
    near the decision boundary, at low density.

    Args:
        distance, margin, density: (n,); images with a score that is not finite are omitted.
        fooled: bool (n,), whether the attack succeeded.
        seed: seed of folds and bootstrap.

    Returns:
        None with fewer than `FEWEST` successes or failures.
    """
    from sklearn.model_selection import StratifiedKFold

    inputs = np.column_stack([distance, -margin, -density])
    usable = np.isfinite(inputs).all(1)
    inputs, fooled = inputs[usable], fooled[usable]
    if min(fooled.sum(), (~fooled).sum()) < FEWEST:
        return None
    joint = np.empty(len(fooled))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed % 2**32)
    for fitted, held_out in folds.split(inputs, fooled):
        joint[held_out] = Logistic.fit(inputs[fitted], fooled[fitted]).log_odds(inputs[held_out])
    scores = {"risk": joint, "margin": inputs[:, 1]}
    scores |= {"distance": inputs[:, 0], "density": inputs[:, 2]}
    areas = {name: _areas(each[fooled], each[~fooled], seed) for name, each in scores.items()}
    return Risk(
        {name: _interval(values, len(fooled)) for name, values in areas.items()},
        _interval(areas["risk"] - areas["margin"], len(fooled)),
    )
