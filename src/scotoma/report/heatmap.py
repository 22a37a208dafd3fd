"""Heat maps: values as colours over a plane, or over a table of names."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from scotoma.report.plot import MARKERS, axes_of, below, beside, legend, values
from scotoma.report.svg import INK, PAPER
from scotoma.results.finding import Finding, Heatmap, Row
from scotoma.utils.text import number

# Colours that differ from those of the page, which change in its dark mode.
BAD_TO_GOOD = LinearSegmentedColormap.from_list(
    "rates", ("#c44e00", "#f2c9a1", "#f4f2ec", "#a5cbe4", "#00629b"), N=20
)
LOW_TO_HIGH = LinearSegmentedColormap.from_list(
    "values", ("#f4f2ec", "#a5cbe4", "#00629b", "#002c47")
)
ON_CELLS, ON_DARK_CELLS = "#15181d", "#fdfdfd"
DARK = 0.5
"""Lightness of a cell, from 0 to 1, below which its text is white."""
WRITTEN_COLUMNS = 9
"""Largest number of columns at which cells are wide enough for their numbers."""
MOST_LINES = 16
"""Largest number of lines at full height, with gaps between cells."""
NAME_LETTERS, COLUMN_LETTERS = 16, 46
"""Number of letters of a name beside a line, and of all names below the columns."""
LONG = 0.01
"""Largest number on an axis below which its ticks have so many digits that fewer fit."""
LETTER = 5.6
"""Mean width of a letter of a name, in points."""


@dataclass(frozen=True)
class _Side:
    """An axis of the cells: positions, position of each row of the table, and names if any."""

    at: np.ndarray
    of: np.ndarray
    names: list[str] | None

    @classmethod
    def read(cls, rows: list[Row], column: str) -> _Side:
        labels = [row[column] for row in rows]
        if any(isinstance(label, str) for label in labels):
            names = list(dict.fromkeys(map(str, labels)))
            return cls(
                np.arange(len(names), dtype=float),
                np.array([names.index(str(label)) for label in labels]),
                names,
            )
        at, of = np.unique(values(rows, column), return_inverse=True)
        return cls(at, of, None)


def heatmap(figure: Heatmap, finding: Finding) -> Canvas:
    """Draw cells, their numbers if there is room, and a colour bar."""
    rows = finding.tables[figure.table]
    x, y = _Side.read(rows, figure.x), _Side.read(rows, figure.y)
    shown = np.full((len(y.at), len(x.at)), np.nan)
    shown[y.of, x.of] = values(rows, figure.value)
    canvas, axes = axes_of(1.2 + 0.26 * min(max(len(y.at), 8), MOST_LINES))
    across, up = _edges(x.at), _edges(y.at)
    colours, scale = _colours(figure, shown[np.isfinite(shown)])
    gaps = PAPER if len(y.at) <= MOST_LINES else "face"
    cells = axes.pcolormesh(
        across, up, np.ma.masked_invalid(shown), cmap=colours, norm=scale, edgecolors=gaps
    )
    if len(x.at) <= WRITTEN_COLUMNS:
        for i, j in np.argwhere(np.isfinite(shown)):
            value = shown[i, j]
            written = f"{100 * value:.1f}" if figure.rates else number(float(value))
            colour = colours(scale(value))
            style: dict[str, Any] = {"color": _on(colour), "fontsize": 8}
            if figure.marks:  # a ring must not cover a number
                style |= {"zorder": 4, "bbox": {"facecolor": colour, "linewidth": 0, "pad": 0.5}}
            axes.text(float(x.at[j]), float(y.at[i]), written, ha="center", va="center", **style)
    handles = []
    if figure.region:
        inside = np.zeros(shown.shape, bool)
        inside[y.of, x.of] = [bool(row[figure.region]) for row in rows]
        border = LineCollection(_border(inside, across, up), colors=ON_CELLS, linewidths=2)
        axes.add_collection(border)
        name = figure.region.replace("_", " ")
        handles.append(Line2D([], [], color=INK, linewidth=2, label=name))
    for i, (label, (at, height)) in enumerate(figure.marks.items()):
        ring: dict[str, Any] = {"fillstyle": "none", "linestyle": "none"}
        ring["marker"] = MARKERS[i % len(MARKERS)]
        for colour, edge in ((ON_DARK_CELLS, 4), (ON_CELLS, 2)):
            style = {**ring, "color": colour, "markeredgewidth": edge}
            axes.plot(at, height, **style, markersize=17, zorder=3)
        ring |= {"color": INK, "markersize": 8, "markeredgewidth": 1.5}
        handles.append(Line2D([], [], **ring, label=label))
    axes.set(xlabel=figure.x_label, ylabel=figure.y_label)
    axes.grid(False)
    if not x.names and 0 < np.abs(x.at).max() < LONG:
        axes.locator_params(axis="x", nbins=4)
    _name(axes, x.names, y.names)
    bar = canvas.colorbar(cells, label=figure.value_label, aspect=30, pad=0.02)
    bar.outline.set_visible(False)  # type: ignore[operator]
    if handles:
        legend(canvas, handles, [str(handle.get_label()) for handle in handles])
    return canvas


def _colours(figure: Heatmap, known: np.ndarray) -> tuple[Colormap, Normalize]:
    """Return the colours, and the numbers at their ends."""
    if figure.rates:
        return BAD_TO_GOOD.reversed() if figure.high_is_bad else BAD_TO_GOOD, Normalize(0, 1)
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    return LOW_TO_HIGH, Normalize(low, high if high > low else low + 1)


def _on(colour: Any) -> str:
    """Return the colour of text on a cell of this colour."""
    return ON_DARK_CELLS if np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722)) < DARK else ON_CELLS


def _name(axes: Axes, columns: list[str] | None, lines: list[str] | None) -> None:
    """Write names instead of numbers on an axis; the first line is at the top."""
    if columns:
        names = [textwrap.wrap(name, max(5, COLUMN_LETTERS // len(columns))) for name in columns]
        axes.set_xticks([])
        for place, name in enumerate(names):
            below(axes, place, name)
        axes.xaxis.labelpad = 8 + 11 * max(map(len, names))
    if lines:
        names = [textwrap.wrap(name, NAME_LETTERS) for name in lines]
        axes.set_yticks([])
        axes.invert_yaxis()
        for place, name in enumerate(names):
            beside(axes, place, name)
        axes.yaxis.labelpad = 8 + LETTER * max(len(part) for name in names for part in name)


def _edges(centres: np.ndarray) -> np.ndarray:
    """Return the edges of cells with these centres."""
    if len(centres) == 1:
        return centres[0] + np.array([-0.5, 0.5])
    between = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - between[0]], between, [2 * centres[-1] - between[-1]]])


def _border(inside: np.ndarray, across: np.ndarray, up: np.ndarray) -> list[np.ndarray]:
    """Return the outer sides of the cells in `inside`."""
    padded = np.pad(inside, 1)
    upright = np.argwhere(np.diff(padded, axis=1)[1:-1])
    level = np.argwhere(np.diff(padded, axis=0)[:, 1:-1])
    sides = [((across[j], up[i]), (across[j], up[i + 1])) for i, j in upright]
    sides += [((across[j], up[i]), (across[j + 1], up[i])) for i, j in level]
    return [np.array(side) for side in sides]
