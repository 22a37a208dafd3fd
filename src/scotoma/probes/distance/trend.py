"""How robustness changes with one measure of the distance to the training data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from scotoma.metrics.risk import FEWEST, Logistic
from scotoma.probes.base import columns
from scotoma.results.finding import Row
from scotoma.utils.stats import (
    UNDEFINED,
    Estimate,
    Rate,
    difference,
    finite,
    partial_spearman,
    rate,
    spearman,
)

FIFTHS = 5
"""Number of groups of equal size, by distance."""
BINS = 12
TAIL = 0.99
"""Quantile of the distance beyond which images join the last bin."""


@dataclass(frozen=True)
class Trend:
    """Attacked images by their distance to the training data; arrays are (n,).

    Args:
        distance: distance to the training data.
        margin: margin of the audited model before the attack.
        smallest: size of the smallest adversarial perturbation; infinite if there is none.
        fooled: whether `smallest` is inside the threat.
        seed: seed of the bootstraps.
    """

    distance: np.ndarray
    margin: np.ndarray
    smallest: np.ndarray
    fooled: np.ndarray
    seed: int

    @cached_property
    def overall(self) -> Estimate:
        """Rank correlation of distance and smallest perturbation."""
        return spearman(self.distance, self.smallest, self.seed)

    @cached_property
    def given_margin(self) -> Estimate:
        """The rank correlation that is left at equal margin."""
        return self.given(self.margin)

    def given(self, other: np.ndarray) -> Estimate:
        """Return the rank correlation that is left where `other`, (n,), is equal."""
        return partial_spearman(self.distance, self.smallest, other, self.seed)

    @cached_property
    def slopes(self) -> list[Estimate]:
        """Slopes of distance and margin in the log odds of success; NaN where few succeed."""
        if min(self.fooled.sum(), (~self.fooled).sum()) < FEWEST:
            return [UNDEFINED, UNDEFINED]
        return Logistic.fit(np.column_stack([self.distance, self.margin]), self.fooled).slopes()

    @cached_property
    def groups(self) -> np.ndarray:
        """Fifth of each image by distance; 0 is the nearest."""
        n = len(self.distance)
        return self.distance.argsort(kind="stable").argsort() * FIFTHS // n

    @property
    def near(self) -> Rate:
        """Attack success rate in the nearest fifth."""
        return rate(self.fooled[self.groups == 0])

    @property
    def far(self) -> Rate:
        """Attack success rate in the farthest fifth."""
        return rate(self.fooled[self.groups == FIFTHS - 1])

    def numbers(self) -> dict[str, Rate | Estimate]:
        """Return the numbers of the finding, by name."""
        return {
            "spearman": self.overall,
            "spearman_given_margin": self.given_margin,
            "nearest_fifth_success": self.near,
            "farthest_fifth_success": self.far,
            "farthest_minus_nearest": difference(self.far, self.near),
            "slope_distance": self.slopes[0],
            "slope_margin": self.slopes[1],
        }

    def bins(self) -> list[Row]:
        """Return success rates in bins of equal width."""
        edges = np.linspace(self.distance.min(), np.quantile(self.distance, TAIL), BINS + 1)
        number = np.clip(np.searchsorted(edges, self.distance, side="right") - 1, 0, BINS - 1)
        edges[-1] = self.distance.max()
        return [
            {
                "left": finite(left),
                "right": finite(right),
                "share": finite(np.mean(number == i)),
                **self._success(number == i),
            }
            for i, (left, right) in enumerate(pairwise(edges))
        ]

    def fifths(self) -> list[Row]:
        """Return success rates in fifths of the images."""
        members = (self.groups == i for i in range(FIFTHS))
        return [
            {
                "fifth": i,
                "mean_distance": finite(self.distance[group].mean()),
                **self._success(group),
            }
            for i, group in enumerate(members, start=1)
        ]

    def _success(self, group: np.ndarray) -> Row:
        success = rate(self.fooled[group])
        return {"n": success.n, **columns("rate", success)}
