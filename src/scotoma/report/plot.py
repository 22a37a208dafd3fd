"""What drawings share: axes, legends, names of rows and columns, and columns as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from scotoma.report.svg import WIDTH
from scotoma.results.finding import Row

MARKERS = "os^Dvp"
LEGEND_LETTERS = 62


def values(rows: list[Row], name: str) -> np.ndarray:
    """Return a column as floats; null becomes NaN, which Matplotlib omits."""
    return np.array([np.nan if row[name] is None else row[name] for row in rows], float)


def interval(rows: list[Row], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the interval of a column: the columns `name_low` and `name_high`."""
    return values(rows, f"{name}_low"), values(rows, f"{name}_high")


def grouped(rows: list[Row], column: str | None) -> dict[Any, list[Row]]:
    """Return the rows of each value of a column in order of appearance; of None without one."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[column] if column else None, []).append(row)
    return groups


def axes_of(height: float) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(WIDTH, height), layout="constrained")
    return canvas, canvas.subplots()


def legend(canvas: Canvas, handles: list[Any], labels: list[str]) -> None:
    """Draw a legend above the plot, in as many columns as fit."""
    fitting = LEGEND_LETTERS // (max(map(len, labels)) + 6)
    columns = max(1, min(len(labels), fitting))
    canvas.set_figheight(canvas.get_figheight() + 0.17 * (-(-len(labels) // columns) - 1))
    layout: Any = {"ncols": columns, "handlelength": 2.2, "columnspacing": 1.6}
    canvas.legend(handles, labels, loc="outside upper left", **layout)


def beside(axes: Axes, row: int, label: list[str]) -> None:
    """Write the name of a row; each line apart, since the font of the reader is not known."""
    middle = (len(label) - 1) / 2
    for i, line in enumerate(label):
        _write(axes, line, (0, row), "y", (-6, 11 * (middle - i)), ha="right", va="center")


def below(axes: Axes, column: int, label: list[str]) -> None:
    """Write the name of a column; see `beside`."""
    for i, line in enumerate(label):
        _write(axes, line, (column, 0), "x", (0, -5 - 11 * i), ha="center", va="top")


def _write(
    axes: Axes,
    line: str,
    at: tuple[float, float],
    along: str,
    by: tuple[float, float],
    **style: Any,
) -> None:
    """Write at a value of the axis `along`, at the edge of the plot, moved `by` some points."""
    place = axes.get_xaxis_transform() if along == "x" else axes.get_yaxis_transform()
    axes.annotate(
        line, at, xycoords=place, xytext=by, textcoords="offset points", fontsize=9, **style
    )
