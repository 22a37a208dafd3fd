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
    for i, line in enumerate(label):
        axes.annotate(
            line,
            (0, row),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-6, 11 * ((len(label) - 1) / 2 - i)),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=9,
        )


def below(axes: Axes, column: int, label: list[str]) -> None:
    """Write the name of a column; see `beside`."""
    for i, line in enumerate(label):
        axes.annotate(
            line,
            (column, 0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, -5 - 11 * i),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=9,
        )
