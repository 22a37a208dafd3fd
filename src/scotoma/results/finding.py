"""Findings of probes: verdict, rule, numbers, tables, and figures as descriptions of tables.

A figure names a table and its columns, and the report draws it. A new probe therefore needs no
change of the report, and a report can be drawn again without the model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from scotoma.utils.stats import Estimate, Rate, finite

Verdict = Literal[
    "holds", "weak", "broken", "undecided", "not applicable", "agrees", "contradicts", "differs"
]
"""Answer of a probe. An item that measures a paper again agrees with it, contradicts it or is
undecided; a comparison of audits differs or is undecided."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """A drawing of a table of the finding; `x`, `y` and the like are names of its columns."""

    name: str
    caption: str
    table: str


@dataclass(frozen=True)
class Curve(Chart):
    """Lines of `y` against `x`, one for each value of `group`.

    Args:
        interval: whether a band is drawn from column `{y}_low` to column `{y}_high`.
        marks: vertical lines, label to x.
    """

    x: str
    y: str
    x_label: str
    y_label: str
    group: str | None = None
    interval: bool = False
    marks: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bars(Chart):
    """Grouped bars with intervals: for each row, labelled by `label`, one bar for each series.

    Args:
        series: legend label to the column of the values, null where there is none. The interval is
            in the columns `{column}_low` and `{column}_high`.
        rates: whether all values are rates in [0, 1]; otherwise they are numbers from 0.
    """

    label: str
    series: dict[str, str]
    y_label: str
    rates: bool = True


@dataclass(frozen=True)
class RateOverHistogram(Chart):
    """A rate for each bin, with its interval, above a histogram: Figures 1-3 of Zhang et al. 2019.

    The table has the columns `left` and `right` (edges of a bin), `n`, `share` (of all images),
    `rate`, `rate_low` and `rate_high` (null where n is 0).
    """

    x_label: str
    y_label: str


@dataclass(frozen=True)
class Scatter(Chart):
    """Points (`x`, `y`), one colour for each value of `group`.

    A row whose y is null was not reached: it is a triangle at the upper edge.
    """

    x: str
    y: str
    x_label: str
    y_label: str
    group: str | None = None


@dataclass(frozen=True)
class Boxes(Chart):
    """Distributions side by side: a box over the `value` of the rows with each `label`.

    A box spans the quartiles, with a line at the median and whiskers at the 5th and 95th
    percentiles. Rows whose value is null were not reached: they count as infinite, and their share
    is written above the box after an infinity sign.
    """

    label: str
    value: str
    y_label: str


@dataclass(frozen=True)
class Heatmap(Chart):
    """Values over a plane: a cell at (`x`, `y`) for each row, blank where `value` is null.

    The rows lie on a grid whose columns and lines are the values of x and y that occur. Numbers are
    drawn to scale, names in order of appearance, from the left and from the top.

    Args:
        region: column of booleans; a border surrounds the cells where it is true, and bears its
            name.
        marks: rings, label to (x, y), on the grid or between its cells.
        rates: whether all values are rates in [0, 1]; otherwise they are any numbers.
        high_is_bad: whether the colours of rates are reversed, as for success of an attack.
    """

    x: str
    y: str
    value: str
    x_label: str
    y_label: str
    value_label: str
    region: str | None = None
    marks: dict[str, tuple[float, float]] = field(default_factory=dict)
    rates: bool = True
    high_is_bad: bool = False


@dataclass(frozen=True)
class Gallery:
    """Images beside one another.

    Args:
        images: name of an array of the finding, (rows, columns, c, h, w) in [0, 1].
        columns: headings.
        captions: text under each image, by row and column.
        adversarial: whether adversarial images are among them.
    """

    name: str
    caption: str
    images: str
    columns: list[str]
    captions: list[list[str]]
    adversarial: bool = False


Figure = Curve | Bars | RateOverHistogram | Scatter | Boxes | Heatmap | Gallery


@dataclass(frozen=True)
class Finding:
    """The result of one probe.

    Args:
        probe: name of the probe.
        question: question about the claim.
        verdict: answer by the rule.
        rule: rule that turns the numbers into the verdict.
        headline: result in a few sentences.
        numbers, tables: JSON values only; None where a number is infinite or undefined.
        figures: descriptions of figures, which name tables and images.
        notes: sentences on the measurement.
        images: arrays for galleries.
        worst: the rate that is the strongest evidence against the claim, with the rest of its
            sentence, as in `(0.12, "of correctly classified images are fooled")`.
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
    worst: tuple[float, str] | None = None


def columns(name: str, rate: Rate | Estimate) -> dict[str, Any]:
    """Return a value and its interval as columns `name`, `name_low` and `name_high`."""
    return {
        name: finite(rate.value),
        f"{name}_low": finite(rate.low),
        f"{name}_high": finite(rate.high),
    }
