"""What a probe found: a verdict with its rule, the numbers and tables behind it, and how to draw them.

Figures are descriptions: they name a table and its columns, and the report draws them. So a new probe brings its own
figures without a line in the report, and a report can be drawn again without the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Verdict = Literal["holds", "weak", "broken", "not applicable", "reproduced", "differs"]
"""The last two are those of a paper's item measured again."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """Lines with bands: `y` (and `low` to `high`) against `x`, one line for each value of `group`."""

    name: str
    caption: str
    table: str
    x: str
    y: str
    x_label: str
    y_label: str
    low: str | None = None
    high: str | None = None
    group: str | None = None
    marks: dict[str, float] = field(default_factory=dict)
    """Vertical lines: label to x."""


@dataclass(frozen=True)
class Bars:
    """Grouped bars with intervals: for each row, labelled by `label`, one bar a series.

    `series` maps a legend label to the columns (value, low, high), null where there is no value. All are rates in [0, 1] or, where
    `rates` is false, any numbers from 0.
    """

    name: str
    caption: str
    table: str
    label: str
    series: dict[str, tuple[str, str, str]]
    y_label: str
    rates: bool = True


@dataclass(frozen=True)
class RateOverHistogram:
    """Figures 1-3 of Zhang et al. 2019: a rate a bin (with interval) above a histogram of the bins' shares, shared x.

    Columns `left`, `right` (bin edges), `n`, `share` (of all images), `rate`, `low`, `high` (null where n is 0).
    """

    name: str
    caption: str
    table: str
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Scatter:
    """Points `x`, `y`, one colour for each value of `group`; rows whose y is null are triangles at the upper edge (not reached)."""

    name: str
    caption: str
    table: str
    x: str
    y: str
    x_label: str
    y_label: str
    group: str | None = None


@dataclass(frozen=True)
class Boxes:
    """Distributions side by side: a box for each value of `label`, over the `value` of its rows, in the order of the table.

    A box reaches from quartile to quartile, with a line at the median and whiskers from the 5th to the 95th percentile. Rows whose
    value is null are not reached: they lie above all others, and their share is written there, after a sign for infinity.
    """

    name: str
    caption: str
    table: str
    label: str
    value: str
    y_label: str


@dataclass(frozen=True)
class Heatmap:
    """Values over a plane: for each row a cell at (`x`, `y`), blank where `value` is null or there is no row.

    The rows lie on a grid: their different values of x, and of y, are its columns and lines. Numbers are drawn to scale, names
    in the order in which they first appear, from the left and from the top. All values are rates in [0, 1] or, where `rates` is
    false, any numbers.
    """

    name: str
    caption: str
    table: str
    x: str
    y: str
    value: str
    x_label: str
    y_label: str
    value_label: str
    region: str | None = None
    """A column of booleans: a border is drawn around the cells where it is true, and named by it."""
    marks: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Rings: label to (x, y), on the grid or between its cells."""
    rates: bool = True
    high_is_bad: bool = False
    """Of rates: a success of attacks, say, rather than an accuracy; the colours are turned round."""


@dataclass(frozen=True)
class Gallery:
    """Images beside one another. `images` names an array of the finding, (rows, columns, c, h, w) in [0, 1].

    `columns` are headings; `captions[row][column]` stands under an image.
    """

    name: str
    caption: str
    images: str
    columns: list[str]
    captions: list[list[str]]


Figure = Curve | Bars | RateOverHistogram | Scatter | Boxes | Heatmap | Gallery


@dataclass(frozen=True)
class Finding:
    """The answer of one probe.

    `numbers` and `tables` hold JSON values only: floats are finite, and what is infinite or undefined is None.
    `notes` are sentences on how it was measured; `images` are arrays for galleries.
    """

    probe: str
    question: str
    verdict: Verdict
    rule: str
    headline: str
    numbers: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, list[Row]] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    images: dict[str, np.ndarray] = field(default_factory=dict)
