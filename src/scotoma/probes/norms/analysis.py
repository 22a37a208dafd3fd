"""What the records of many attacks say in one norm, image by image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl

from scotoma.claim import Threat
from scotoma.execution.records import beyond
from scotoma.execution.run import Attack
from scotoma.utils.stats import Rate, median, rate

Kind = Literal["gradient", "decision", "the audit's own"]
"""Whether an attack follows the model's gradients or looks at its answers alone. The attack that all probes use may do both."""

NEARER = 0.9
"""A distance is clearly smaller below this share of another."""
MISLED = 0.5
"""Share of images with clearly smaller distances without gradients, beyond which gradients mislead."""


@dataclass(frozen=True)
class Tried:
    """One attack and its records of the audited images."""

    name: str
    kind: Kind
    gradient: str | None
    """that it is given: "exact", "bpda" or "estimate"; None where it follows none"""
    attack: Attack
    records: pl.DataFrame


@dataclass(frozen=True)
class Reading:
    """What attacks that minimise one norm achieved; arrays have one entry for each audited image.

    Distances are 0 where the model is wrong before any attack, and infinite where the attack failed.
    """

    bound: Threat
    tried: tuple[Tried, ...]
    right: np.ndarray
    """bool: the model is right, whenever it was asked"""

    @cached_property
    def distances(self) -> np.ndarray:
        """Of each attack, a row each."""
        found = [each.records[self.bound.norm].to_numpy() for each in self.tried]
        return np.where(self.right, np.stack(found).astype(np.float64), 0.0)

    @cached_property
    def nearest(self) -> np.ndarray:
        """The smallest distance that any attack found."""
        return self.distances.min(0)

    @cached_property
    def finder(self) -> np.ndarray:
        """Which attack found it, the first of those that did; -1 where none did."""
        return np.where(self.broken, self.distances.argmin(0), -1)

    @cached_property
    def broken(self) -> np.ndarray:
        """bool: the model is right, and some attack fooled it at some distance"""
        return self.right & np.isfinite(self.nearest)

    @property
    def gradient(self) -> str | None:
        """That the attacks which follow gradients are given; None without such attacks."""
        return next((each.gradient for each in self.tried if each.kind == "gradient"), None)

    def by(self, kind: Kind) -> np.ndarray | None:
        """The smallest distance that attacks of a kind found; None without such attacks."""
        rows = [number for number, each in enumerate(self.tried) if each.kind == kind]
        return self.distances[rows].min(0) if rows else None

    @cached_property
    def median(self) -> float:
        """Of `nearest`: infinite where more than half of the images stand."""
        return median(self.nearest).value

    def accuracy(self, distances: np.ndarray | None = None, size: float | None = None) -> Rate:
        """The share of all images that are right and stay so at `size`, the bound where it is None; of `nearest`, or of others."""
        return rate(
            beyond(
                self.nearest if distances is None else distances,
                self.bound.eps if size is None else size,
            )
        )

    @cached_property
    def success(self) -> Rate:
        """Of the images that the model has right, those that fall within the bound."""
        return rate(~beyond(self.nearest[self.right], self.bound.eps))

    @cached_property
    def decision_nearer(self) -> Rate | None:
        """Of the images that either kind of attack broke, those whose distance is clearly smaller by decisions than by gradients;
        None without attacks of both kinds."""
        gradient, decision = self.by("gradient"), self.by("decision")
        if gradient is None or decision is None:
            return None
        either = self.right & np.isfinite(np.minimum(gradient, decision))
        return rate(decision[either] < NEARER * gradient[either])

    @property
    def is_masked(self) -> bool:
        """Whether gradients mislead attacks in this norm."""
        return self.decision_nearer is not None and bool(self.decision_nearer.low > MISLED)
