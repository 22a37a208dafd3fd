"""What the measurements of the inequality probe say: errors, and the gap between importance and chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from scotoma.attribution.noise import TYPES
from scotoma.attribution.ranking import ORDERS
from scotoma.probes.inequality.measurements import Plan
from scotoma.utils.stats import Z95, Estimate, Rate, rate

FEW_VALUES = 0.035
"""Of the values: up to the third of the paper's five numbers of them."""
FEW_PIXELS = 0.05
"""Of the pixels that an occlusion may cover: the smaller of the paper's two."""


@dataclass(frozen=True)
class Cell:
    """One way to disturb the places that matter, and as many random ones; arrays are (n,), in [0, 1].

    Args:
        attack: "noise" or "occlusion".
        kind: the type of noise, or the colour of the cover.
        size: how many values, or the number of the occlusion.
        reach: how many values, or at most how many pixels.
        share: that is, of all.
        wrong: by order, on which images the model is wrong, or on what share of the draws.
    """

    attack: str
    kind: str
    size: int
    reach: int
    share: float
    wrong: dict[str, np.ndarray]

    @property
    def few(self) -> bool:
        """Whether it is no more than a handful: what the verdict looks at."""
        return self.reach == 1 or self.share <= (
            FEW_VALUES if self.attack == "noise" else FEW_PIXELS
        )

    def error(self, order: str) -> Rate:
        """Wilson's interval of the mean over images; too wide, if anything, where an image has several draws."""
        return rate(self.wrong[order])

    @cached_property
    def gap(self) -> Estimate:
        """Error by importance less error at random, image by image."""
        return paired(self.wrong["importance"] - self.wrong["random"])


@dataclass(frozen=True)
class Reading:
    """One model's measurements: `name` is "audited" or "reference", `table` that of `inequality_looking.look`."""

    name: str
    plan: Plan
    table: pl.DataFrame

    def __getitem__(self, column: str) -> np.ndarray:
        """(n,), or (n, m) where an image has several."""
        return self.table[column].to_numpy()

    def covered(self, order: str, colour: str, number: int) -> np.ndarray:
        """How many pixels it took, infinite where the model stands."""
        return self[f"cover {order} {colour} {number}"]

    @cached_property
    def cells(self) -> list[Cell]:
        """Noise first, from few values to many."""
        plan, cells = self.plan, []
        for kind in TYPES:
            for column, count in enumerate(plan.counts):
                wrong = {
                    order: self[f"noise {order} {kind}"][:, column].astype(float)
                    for order in ORDERS
                }
                cells.append(Cell("noise", kind, count, count, count / plan.values, wrong))
        for colour in plan.colours:
            for number in range(len(plan.occlusions)):
                wrong = {
                    order: np.isfinite(self.covered(order, colour, number)).astype(float)
                    for order in ORDERS
                }
                cells.append(
                    Cell(
                        "occlusion",
                        colour,
                        number,
                        plan.reach(number),
                        plan.reach(number) / plan.pixels,
                        wrong,
                    )
                )
        return cells

    def like(self, cell: Cell) -> Cell:
        """The same cell of this model."""
        return next(
            each
            for each in self.cells
            if (each.attack, each.kind, each.size) == (cell.attack, cell.kind, cell.size)
        )


def paired(differences: np.ndarray) -> Estimate:
    """The mean of differences in [-1, 1], with its 95% interval after Agresti and Min (2005): as if there were two images more,
    whose differences are spread over -1, 0 and 1, so that it has a width where all images agree; NaN where n is 0."""
    n = len(differences)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    centre = float(differences.sum()) / (n + 2)
    half = Z95 * math.sqrt(
        max(0.0, (float(np.square(differences).sum()) + 1) / (n + 2) - centre**2) / (n + 2)
    )
    value = float(differences.mean())
    return Estimate(
        value, max(-1.0, min(value, centre - half)), min(1.0, max(value, centre + half)), n
    )
