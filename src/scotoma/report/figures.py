"""One drawing for each kind of figure that a finding can describe."""

from __future__ import annotations

import textwrap
from functools import singledispatch
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from scotoma.finding import Bars, Curve, Figure, Finding, Gallery, Heatmap, RateOverHistogram, Row, Scatter
from scotoma.report.svg import INK, MUTED, PALETTE, PAPER, WIDTH, render

MARKERS = "os^Dvp"
LINES = ("-", "--", "-.", ":")
LEGEND_LETTERS = 62
LABEL_LETTERS = 30
MANY_POINTS = 3000
LETTER_SHARE = 0.017
"""Of the width of a plot, for a letter of the names of marks."""
AT_THE_EDGE = 0.85

# Heat maps keep their colours in a dark page, so these are none of those that follow it.
LOW_TO_HIGH = LinearSegmentedColormap.from_list("rates", ("#c44e00", "#f2c9a1", "#f4f2ec", "#a5cbe4", "#00629b"), N=20)
ON_CELLS, ON_DARK_CELLS = "#15181d", "#fdfdfd"
DARK = 0.4
"""How far from the middle of the scale text must be white."""
WRITTEN_COLUMNS = 9
"""Up to so many columns, cells are wide enough for their numbers."""

# Points, for galleries.
MARGIN, GAP, LINE = 9.0, 8.0, 11.0
LARGEST_TILE, SMALLEST_TILE = 92.0, 56.0
LETTER = 4.6
"""Mean width of a letter of the 8 pt captions."""


def draw(figure: Figure, finding: Finding) -> str:
    """The figure as a standalone SVG document, the same bytes for the same finding.

    Raises `KeyError` when it names a table, a column or an array that the finding does not have.
    """
    drawn = finding.images[figure.images] if isinstance(figure, Gallery) else finding.tables[figure.table]
    return render(lambda: _canvas(figure, finding) if len(drawn) else _nothing(), title(figure), figure.caption)


def _nothing() -> Canvas:
    canvas = Canvas(figsize=(WIDTH, 0.6))
    canvas.text(0.5, 0.5, "no data to draw", ha="center", va="center", color=MUTED)
    return canvas


def title(figure: Figure) -> str:
    """What a reader who cannot see the figure is told first."""
    match figure:
        case Gallery():
            return f"Images: {', '.join(figure.columns)}"
        case Bars():
            return f"Bar chart: {figure.y_label} of {', '.join(figure.series)}"
        case RateOverHistogram():
            return f"Chart and histogram: {figure.y_label} over {figure.x_label}"
        case Scatter():
            return f"Scatter plot: {figure.y_label} against {figure.x_label}"
        case Heatmap():
            return f"Heat map: {figure.value_label} over {figure.x_label} and {figure.y_label}"
        case Curve():
            return f"Line chart: {figure.y_label} against {figure.x_label}"


@singledispatch
def _canvas(figure: Any, finding: Finding) -> Canvas:
    raise TypeError(f"no drawing for figures of type {type(figure).__name__}")


def _values(rows: list[Row], column: str) -> np.ndarray:
    """A column as floats, null as nan: what Matplotlib leaves out."""
    return np.array([np.nan if row[column] is None else row[column] for row in rows], float)


def _axes(height: float) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(WIDTH, height), layout="constrained")
    return canvas, canvas.subplots()


def _legend(canvas: Canvas, handles: list[Any], labels: list[str]) -> None:
    """Above the plot, in as many columns as its labels leave room for."""
    fitting = LEGEND_LETTERS // (max(map(len, labels)) + 6)
    columns = max(1, min(len(labels), fitting))
    canvas.set_figheight(canvas.get_figheight() + 0.17 * (-(-len(labels) // columns) - 1))
    canvas.legend(handles, labels, loc="outside upper left", ncols=columns, handlelength=2.2, columnspacing=1.6)


def _from_zero(axes: Axes, *heights: np.ndarray) -> None:
    """A y axis that starts at 0 for values that cannot be below it, and ends at 1 for what looks like a rate."""
    known = np.concatenate(heights)
    known = known[np.isfinite(known)]
    if known.size and known.min() >= 0:
        axes.set_ylim(0, 1.02 if 0.3 < known.max() <= 1 else None)


@_canvas.register
def _curve(figure: Curve, finding: Finding) -> Canvas:
    rows = finding.tables[figure.table]
    groups = list(dict.fromkeys(row[figure.group] for row in rows)) if figure.group else [None]
    canvas, axes = _axes(3.4)
    lines = []
    for i, group in enumerate(groups):
        members = [row for row in rows if figure.group is None or row[figure.group] == group]
        colour, x = PALETTE[i % len(PALETTE)], _values(members, figure.x)
        if figure.low and figure.high:
            low, high = _values(members, figure.low), _values(members, figure.high)
            axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)
        lines += axes.plot(
            x,
            _values(members, figure.y),
            color=colour,
            linestyle=LINES[i // len(PALETTE) % len(LINES)],
            linewidth=1.8,
            marker=MARKERS[i % len(MARKERS)],
            markersize=4,
            clip_on=False,
        )
    _from_zero(axes, *(_values(rows, column) for column in (figure.y, figure.low, figure.high) if column))
    _marks(axes, figure.marks)
    if figure.group and len(groups) > 1:
        _legend(canvas, lines, [str(group) for group in groups])
    axes.set(xlabel=figure.x_label, ylabel=figure.y_label)
    return canvas


def _marks(axes: Axes, marks: dict[str, float]) -> None:
    """Vertical lines named above the plot; a name too near its neighbour moves up a line."""
    left, right = axes.get_xlim()
    left, right = min([left, *marks.values()]), max([right, *marks.values()])
    axes.set_xlim(left, right)
    ends = [-np.inf] * len(marks)
    for label, x in sorted(marks.items(), key=lambda mark: mark[1]):
        place, length = (x - left) / (right - left), LETTER_SHARE * len(label)
        start = place - length / (1 if place > AT_THE_EDGE else 2)
        level = next(i for i, end in enumerate(ends) if start > end)
        ends[level] = start + length
        axes.axvline(x, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
        axes.annotate(
            label,
            (x, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 4 + 12 * level),
            textcoords="offset points",
            ha="right" if place > AT_THE_EDGE else "center",
            fontsize=9,
            color=INK,
        )


@_canvas.register
def _bars(figure: Bars, finding: Finding) -> Canvas:
    """The bars lie, so that their labels can be words; the first row is at the top."""
    rows = finding.tables[figure.table]
    thick = 0.8 / len(figure.series)
    labels = [textwrap.wrap(str(row[figure.label]), LABEL_LETTERS) for row in rows]
    row_height = max(0.17 * len(figure.series) + 0.13, 0.16 * max(map(len, labels)) + 0.1, 0.3)
    canvas, axes = _axes(0.95 + row_height * max(len(rows), 2))
    for i, (value, low, high) in enumerate(figure.series.values()):
        rates, y = _values(rows, value), np.arange(len(rows)) - 0.4 + thick * (i + 0.5)
        axes.barh(y, np.nan_to_num(rates), thick * 0.86, color=PALETTE[i % len(PALETTE)], linewidth=0)
        below, above = rates - _values(rows, low), _values(rows, high) - rates
        known = np.isfinite(below) & np.isfinite(above)
        spread = np.maximum(0, [below[known], above[known]])
        axes.errorbar(rates[known], y[known], xerr=spread, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        for missing in y[np.isnan(rates)]:
            axes.annotate("–", (0, missing), xytext=(4, 0), textcoords="offset points", va="center", color=MUTED)
    axes.set(xlim=(0, 1.01 if figure.rates else None), xlabel=figure.y_label, yticks=[])
    for row, label in enumerate(labels):
        _beside(axes, row, label)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    if len(figure.series) > 1:
        handles = [Patch(color=PALETTE[i % len(PALETTE)], linewidth=0) for i in range(len(figure.series))]
        _legend(canvas, handles, list(figure.series))
    return canvas


def _beside(axes: Axes, row: int, label: list[str]) -> None:
    """A row's name, line by line: in one text Matplotlib would place the lines by a font that the reader may not have."""
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


@_canvas.register
def _rate_over_histogram(figure: RateOverHistogram, finding: Finding) -> Canvas:
    rows = finding.tables[figure.table]
    left, right, rate, low, high, share = (_values(rows, name) for name in ("left", "right", "rate", "low", "high", "share"))
    canvas = Canvas(figsize=(WIDTH, 4.1), layout="constrained")
    upper, lower = canvas.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    centre = (left + right) / 2
    for x, a, b in zip(np.stack([left, right], 1), low, high, strict=True):
        upper.fill_between(x, a, b, color=PALETTE[0], alpha=0.18, linewidth=0)
    upper.hlines(rate, left, right, color=PALETTE[0], linewidth=1.8)
    upper.plot(centre, rate, "o", color=PALETTE[0], markersize=4, clip_on=False)
    upper.set(ylim=(0, 1.02), ylabel=figure.y_label)
    lower.bar(left, np.nan_to_num(share), right - left, align="edge", color=MUTED, alpha=0.55, linewidth=0)
    lower.set(xlabel=figure.x_label, ylabel="share of images")
    lower.grid(False, axis="x")
    canvas.align_ylabels([upper, lower])
    return canvas


@_canvas.register
def _scatter(figure: Scatter, finding: Finding) -> Canvas:
    rows = finding.tables[figure.table]
    x, y = _values(rows, figure.x), _values(rows, figure.y)
    canvas, axes = _axes(3.4)
    reached = np.isfinite(y)
    # Thousands of points as vector marks would make the page heavy; they become one picture, the text around stays text.
    style: dict[str, Any] = {"linestyle": "none", "markeredgewidth": 0, "rasterized": len(rows) > MANY_POINTS}
    groups = list(dict.fromkeys(row[figure.group] for row in rows)) if figure.group else ["reached"]
    place = np.array([groups.index(row[figure.group]) if figure.group else 0 for row in rows])
    drawn = []
    for i in range(len(groups)):
        chosen = reached & (place == i)
        drawn += axes.plot(x[chosen], y[chosen], "o", color=PALETTE[i % len(PALETTE)], markersize=4, alpha=0.55, **style)
    _from_zero(axes, y)
    if not reached.all():
        above = axes.get_xaxis_transform()
        edge = np.full((~reached).sum(), 1.04)
        style |= {"transform": above, "clip_on": False}
        colour = PALETTE[len(groups) % len(PALETTE)]
        drawn += axes.plot(x[~reached], edge, "^", color=colour, markersize=5.5, alpha=0.7, **style)
        groups.append("not reached")
    if len(groups) > 1:
        _legend(canvas, drawn, [str(group) for group in groups])
    if not reached.any():
        axes.set_yticks([])
    axes.set(xlabel=figure.x_label, ylabel=figure.y_label)
    return canvas


@_canvas.register
def _heatmap(figure: Heatmap, finding: Finding) -> Canvas:
    rows = finding.tables[figure.table]
    (x, column), (y, line) = (np.unique(_values(rows, name), return_inverse=True) for name in (figure.x, figure.y))
    values = np.full((len(y), len(x)), np.nan)
    values[line, column] = _values(rows, figure.value)
    canvas, axes = _axes(1.2 + 0.26 * max(len(y), 8))
    across, up = _edges(x), _edges(y)
    cells = axes.pcolormesh(across, up, np.ma.masked_invalid(values), cmap=LOW_TO_HIGH, vmin=0, vmax=1, edgecolors=PAPER)
    if len(x) <= WRITTEN_COLUMNS:
        for i, j in np.argwhere(np.isfinite(values)):
            colour = ON_DARK_CELLS if abs(values[i, j] - 0.5) > DARK else ON_CELLS
            axes.text(float(x[j]), float(y[i]), f"{100 * values[i, j]:.1f}", ha="center", va="center", fontsize=8, color=colour)
    handles = []
    if figure.region:
        inside = np.zeros(values.shape, bool)
        inside[line, column] = [bool(row[figure.region]) for row in rows]
        axes.add_collection(LineCollection(_border(inside, across, up), colors=ON_CELLS, linewidths=2))
        handles.append(Line2D([], [], color=INK, linewidth=2, label=figure.region.replace("_", " ")))
    for i, (label, (at, height)) in enumerate(figure.marks.items()):
        ring: dict[str, Any] = {"marker": MARKERS[i % len(MARKERS)], "fillstyle": "none", "linestyle": "none"}
        axes.plot(at, height, **ring, color=ON_DARK_CELLS, markersize=13, markeredgewidth=4, zorder=3)
        axes.plot(at, height, **ring, color=ON_CELLS, markersize=13, markeredgewidth=2, zorder=3)
        handles.append(Line2D([], [], **ring, color=INK, markersize=8, markeredgewidth=1.5, label=label))
    axes.set(xlabel=figure.x_label, ylabel=figure.y_label)
    axes.grid(False)
    scale = canvas.colorbar(cells, label=figure.value_label, aspect=30, pad=0.02)
    scale.outline.set_visible(False)  # type: ignore[operator]
    if handles:
        _legend(canvas, handles, [str(handle.get_label()) for handle in handles])
    return canvas


def _edges(centres: np.ndarray) -> np.ndarray:
    """Where cells with these centres meet, and the outer ends."""
    if len(centres) == 1:
        return centres[0] + np.array([-0.5, 0.5])
    between = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - between[0]], between, [2 * centres[-1] - between[-1]]])


def _border(inside: np.ndarray, across: np.ndarray, up: np.ndarray) -> list[np.ndarray]:
    """The sides of the cells in `inside` beyond which there is none of them."""
    padded = np.pad(inside, 1)
    upright = np.argwhere(np.diff(padded, axis=1)[1:-1])
    level = np.argwhere(np.diff(padded, axis=0)[:, 1:-1])
    sides = [((across[j], up[i]), (across[j], up[i + 1])) for i, j in upright]
    sides += [((across[j], up[i]), (across[j + 1], up[i])) for i, j in level]
    return [np.array(side) for side in sides]


@_canvas.register
def _gallery(figure: Gallery, finding: Finding) -> Canvas:
    """Tiles of one size, each in the range 0 to 1 as the model sees it, never stretched to its own range."""
    images = finding.images[figure.images]
    wide = len(figure.columns)
    tile = min(LARGEST_TILE, max(SMALLEST_TILE, (72 * WIDTH - 2 * MARGIN + GAP) / wide - GAP))
    letters = int(tile / LETTER)
    captions = [[textwrap.wrap(caption, letters) for caption in row] for row in figure.captions]
    headings = [textwrap.wrap(heading, letters) for heading in figure.columns]
    under = [LINE * max(map(len, row)) + 4 for row in captions]
    top = MARGIN + LINE * max(map(len, headings)) + 5
    width, height = 2 * MARGIN + wide * (tile + GAP) - GAP, top + sum(tile + text + GAP for text in under) + MARGIN - GAP
    canvas = Canvas(figsize=(width / 72, height / 72))

    def write(x: float, y: float, lines: list[str], **style: Any) -> None:
        for i, line in enumerate(lines):
            canvas.text(x / width, 1 - (y + LINE * (i + 0.8)) / height, line, ha="center", va="baseline", **style)

    centres = [MARGIN + column * (tile + GAP) + tile / 2 for column in range(wide)]
    for x, heading in zip(centres, headings, strict=True):
        write(x, top - 5 - LINE * len(heading), heading, fontsize=8.5, fontweight="bold")
    y = top
    for tiles, texts, text_height in zip(images, captions, under, strict=True):
        for x, image, lines in zip(centres, tiles, texts, strict=True):
            box = ((x - tile / 2) / width, 1 - (y + tile) / height, tile / width, tile / height)
            _tile(canvas, box, np.asarray(image, float))
            write(x, y + tile + 2, lines, fontsize=8)
        y += tile + text_height + GAP
    return canvas


def _tile(canvas: Canvas, box: tuple[float, float, float, float], image: np.ndarray) -> None:
    axes = canvas.add_axes(box, xticks=[], yticks=[])
    axes.spines[:].set(visible=True, linewidth=0.6, color=MUTED)
    pixels = image if len(image) == 3 else np.repeat(image.mean(0, keepdims=True), 3, axis=0)
    axes.imshow(np.rint(255 * pixels.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0), interpolation="none")
