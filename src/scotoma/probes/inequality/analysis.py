"""Errors of the inequality probe, and the gap between important and random places."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from scotoma.attribution.noise import TYPES
from scotoma.attribution.ranking import ORDERS
from scotoma.probes.inequality.measurements import Plan, column_name
from scotoma.utils.stats import Estimate, Rate, paired_difference, rate, z_of

FEW_VALUES = 0.035
"""Largest share of values that is few: up to the third of the paper's five numbers."""
FEW_PIXELS = 0.05
"""Largest share of covered pixels that is few: the smaller of the paper's two."""

GINIS = {
    "gini": "gini global absolute",
    "gini_positive": "gini global positive",
    "gini_regional": "gini regional net",
    "gini_regional_absolute": "gini regional absolute",
    "gini_regional_positive": "gini regional positive",
}
"""Columns by the names of numbers, in the order of the table."""


@dataclass(frozen=True)
class Cell:
    """One change at important places, and at as many random ones; arrays are (n,) in [0, 1].

    Args:
        attack: "noise" or "occlusion".
        kind: type of the noise, or colour of the cover.
        size: number of values, or index of the occlusion.
        reach: number of values, or most pixels.
        share: `reach` as a share of all values or pixels.
        wrong: by order, whether the model is wrong on each image, or the share of draws.
    """

    attack: str
    kind: str
    size: int
    reach: int
    share: float
    wrong: dict[str, np.ndarray]

    @property
    def few(self) -> bool:
        """Whether the change is small enough for the verdict."""
        most = FEW_VALUES if self.attack == "noise" else FEW_PIXELS
        return self.reach == 1 or self.share <= most

    def error(self, order: str, of: int = 1) -> Rate:
        """Return the mean over images with Wilson's interval, conservative for several draws.

        It is one of `of` intervals that hold at once with 95%.
        """
        return rate(self.wrong[order], of)

    @cached_property
    def gap(self) -> Estimate:
        """Error at important places less error at random places, paired by image."""
        return self.gap_of(1)

    def gap_of(self, of: int) -> Estimate:
        """Return the gap with one of `of` intervals that hold at once with 95%."""
        return paired_difference(
            self.wrong["importance"], self.wrong["random"], interval="agresti-min", z=z_of(of)
        )


@dataclass(frozen=True)
class ModelAnalysis:
    """Measurements of one model, "audited" or "reference", from `measurements.Measures`."""

    name: str
    plan: Plan
    table: pl.DataFrame

    def __getitem__(self, column: str) -> np.ndarray:
        """Return a column of `GINIS` or of the table, (n,), or (n, m) for several values."""
        return self.table[GINIS.get(column, column)].to_numpy()

    def covered(self, order: str, colour: str, number: int) -> np.ndarray:
        """Return the covered pixels of each image, infinite if the model was not fooled."""
        occlusion = self.plan.measures.occlusions[self.plan.cover(colour, number)]
        return self[f"covered {column_name(occlusion)} {order}"]

    @cached_property
    def cells(self) -> list[Cell]:
        """All changes: noise first, from few values to many."""
        plan, cells = self.plan, []
        for kind in TYPES:
            for column, count in enumerate(plan.counts):
                wrong = {
                    order: self[f"noise gaussian {kind} {order}"][:, column].astype(float)
                    for order in ORDERS
                }
                cells.append(Cell("noise", kind, count, count, count / plan.values, wrong))
        for colour in plan.colours:
            for number in range(len(plan.occlusions)):
                wrong = {
                    order: np.isfinite(self.covered(order, colour, number)).astype(float)
                    for order in ORDERS
                }
                reach = plan.reach(number)
                share = reach / plan.pixels
                cells.append(Cell("occlusion", colour, number, reach, share, wrong))
        return cells

    def like(self, cell: Cell) -> Cell:
        """Return the same cell of this model."""
        return next(
            each
            for each in self.cells
            if (each.attack, each.kind, each.size) == (cell.attack, cell.kind, cell.size)
        )
