"""The smallest distances of many attacks in one norm, image by image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl

from scotoma.execution.records import beyond, is_correct
from scotoma.execution.run import Attack
from scotoma.probes.scored import Scored
from scotoma.threat import Threat
from scotoma.utils.stats import Rate, median, rate

Kind = Literal["gradient", "decision", "the audit's own"]
"""Whether an attack uses gradients or predictions alone; the audit attack may use both."""

NEARER = 0.9
"""Share of another distance below which a distance is clearly smaller."""
MISLED = 0.5
"""Gradients mislead if attacks without them come clearly nearer on more than this share."""


@dataclass(frozen=True)
class AttackRecords:
    """One attack and its records of the audited images."""

    name: str
    kind: Kind
    gradient: str | None
    """the gradients that it uses: "exact", "bpda" or "estimate"; None for none"""
    attack: Attack
    records: pl.DataFrame


@dataclass(frozen=True)
class NormAnalysis:
    """Results of attacks that minimise one norm; arrays have one entry for each audited image.

    Distances are 0 if the model is wrong without an attack, and infinite if the attack failed.
    """

    bound: Threat
    attacks: tuple[AttackRecords, ...]
    correct: np.ndarray
    """bool: whether the model is correct in every evaluation of these attacks"""
    rows: pl.DataFrame
    """rows of the ledger, with the smallest perturbation of any attack for each image"""
    scored: Scored | None = None
    """scores of all test images, if there are any: they narrow the intervals of success rates"""

    @cached_property
    def distances(self) -> np.ndarray:
        """Distances, a row for each attack."""
        rows = [each.records[self.bound.norm].to_numpy() for each in self.attacks]
        return np.where(self.correct, np.stack(rows).astype(np.float64), 0.0)

    @cached_property
    def nearest(self) -> np.ndarray:
        """Smallest distance over all attacks of the ledger."""
        return self.rows[self.bound.norm].to_numpy().astype(np.float64)

    @cached_property
    def finder(self) -> np.ndarray:
        """Number of the first of these attacks that reaches `nearest`; -1 for none."""
        first = self.distances.argmin(0)
        finds = self.fooled & (self.distances.min(0) <= self.nearest)
        return np.where(finds, first, -1)

    @property
    def attacked(self) -> np.ndarray:
        """bool: whether the model is correct before the attacks."""
        return is_correct(self.rows)

    @cached_property
    def fooled(self) -> np.ndarray:
        """bool: whether the model is correct and some attack fools it at some distance."""
        return self.rows["success"].to_numpy()

    @property
    def gradient(self) -> str | None:
        """The gradients that gradient-based attacks use; None without such attacks."""
        return next((each.gradient for each in self.attacks if each.kind == "gradient"), None)

    def smallest(self, kind: Kind) -> np.ndarray | None:
        """Return the smallest distance over attacks of a kind; None without such attacks."""
        rows = [number for number, each in enumerate(self.attacks) if each.kind == kind]
        return self.distances[rows].min(0) if rows else None

    @cached_property
    def median(self) -> float:
        """Median of `nearest`: infinite if more than half of the images withstand all attacks."""
        return median(self.nearest).value

    def accuracy(self, distances: np.ndarray | None = None, size: float | None = None) -> Rate:
        """Return the share of all images that are correct and withstand perturbations of a size.

        `distances` are `nearest` and `size` is the bound unless given.
        """
        distances = self.nearest if distances is None else distances
        return rate(beyond(distances, self.bound.eps if size is None else size))

    @cached_property
    def success(self) -> Rate:
        """Share of the correctly classified images that are fooled within the bound."""
        return self.success_of(1)

    def success_of(self, of: int) -> Rate:
        """Return that share with one of `of` intervals that hold at once with 95%."""
        return rate(~beyond(self.nearest[self.attacked], self.bound.eps), of)

    def on_all(self, of: int = 1) -> Rate | None:
        """Return that share for the whole test set; None where it has no scores."""
        if self.scored is None:
            return None
        index = self.rows["index"].to_numpy()[self.attacked]
        fooled = ~beyond(self.nearest[self.attacked], self.bound.eps)
        return self.scored.outcomes(index, fooled).success(of)

    def example(self, row: int) -> tuple[int, str]:
        """Return the prediction on the nearest example of an image, and the attack's name."""
        number, norm = self.finder[row], self.bound.norm
        attack = self.attacks[number].name if number >= 0 else self.rows[f"{norm}_attack"][row]
        return self.rows[f"{norm}_prediction"][row], attack

    @cached_property
    def decision_nearer(self) -> Rate | None:
        """Share of the images fooled by either kind of attack that decisions fool much nearer.

        None without attacks of both kinds.
        """
        gradient, decision = self.smallest("gradient"), self.smallest("decision")
        if gradient is None or decision is None:
            return None
        either = self.correct & np.isfinite(np.minimum(gradient, decision))
        return rate(decision[either] < NEARER * gradient[either])

    @property
    def is_masked(self) -> bool:
        """Whether gradients mislead attacks in this norm."""
        return self.decision_nearer is not None and bool(self.decision_nearer.low > MISLED)
