"""Drawings of the figures that a finding describes."""

from __future__ import annotations

import textwrap
from functools import partial, singledispatch
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch

from scotoma.report.boxes import boxes
from scotoma.report.gallery import gallery
from scotoma.report.heatmap import heatmap
from scotoma.report.plot import MARKERS, axes_of, beside, grouped, interval, legend, values
from scotoma.report.svg import INK, MUTED, PALETTE, WIDTH, render
from scotoma.results.finding import (
    Bars,
    Boxes,
    Curve,
    Figure,
    Finding,
    Gallery,
    Heatmap,
    RateOverHistogram,
    Scatter,
)

LINES = ("-", "--", "-.", ":")
LABEL_LETTERS = 30
"""Width of a line of a label."""
MARKED = 20
"""Approximate number of markers of a long curve; a short curve has one at each point."""
MANY_POINTS = 3000
"""Number of points above which they are drawn as one raster image."""
LETTER_SHARE = 0.017
"""Width of a letter of a mark's name, as a fraction of the width of the plot."""
AT_THE_EDGE = 0.85
"""Position on the x axis, from 0 to 1, beyond which a name is right-aligned."""


def draw(figure: Figure, finding: Finding) -> str:
    """Return a figure as a standalone SVG document, with equal bytes for equal findings.

    Raises:
        KeyError: the figure names a table, column or array that the finding lacks.
    """
    if isinstance(figure, Gallery):
        drawn = finding.images[figure.images]
    else:
        drawn = finding.tables[figure.table]
    paint = partial(_canvas, figure, finding) if len(drawn) else _nothing
    return render(paint, title(figure), figure.caption)


def _nothing() -> Canvas:
    canvas = Canvas(figsize=(WIDTH, 0.6))
    canvas.text(0.5, 0.5, "no data to draw", ha="center", va="center", color=MUTED)
    return canvas


def title(figure: Figure) -> str:
    """Return what a screen reader says first."""
    match figure:
        case Gallery():
            return f"Images: {', '.join(figure.columns)}"
        case Bars():
            return f"Bar chart: {figure.y_label} of {', '.join(figure.series)}"
        case RateOverHistogram():
            return f"Chart and histogram: {figure.y_label} over {figure.x_label}"
        case Scatter():
            return f"Scatter plot: {figure.y_label} against {figure.x_label}"
        case Boxes():
            return f"Box plot: {figure.y_label} by {figure.label.replace('_', ' ')}"
        case Heatmap():
            return f"Heat map: {figure.value_label} over {figure.x_label} and {figure.y_label}"
        case Curve():
            return f"Line chart: {figure.y_label} against {figure.x_label}"


@singledispatch
def _canvas(figure: Any, finding: Finding) -> Canvas:
    raise TypeError(f"no drawing for figures of type {type(figure).__name__}")


def _from_zero(axes: Axes, *heights: np.ndarray) -> None:
    """Start the y axis at 0 if no value is below it, and end it at 1 for values like rates."""
    known = np.concatenate(heights)
    known = known[np.isfinite(known)]
    if known.size and known.min() >= 0:
        axes.set_ylim(0, 1.02 if 0.3 < known.max() <= 1 else None)


@_canvas.register
def _curve(figure: Curve, finding: Finding) -> Canvas:
    rows = finding.tables[figure.table]
    groups = grouped(rows, figure.group)
    canvas, axes = axes_of(3.4)
    lines = []
    for i, members in enumerate(groups.values()):
        colour, x = PALETTE[i % len(PALETTE)], values(members, figure.x)
        if figure.interval:
            axes.fill_between(
                x, *interval(members, figure.y), color=colour, alpha=0.16, linewidth=0
            )
        lines += axes.plot(
            x,
            values(members, figure.y),
            color=colour,
            linestyle=LINES[i // len(PALETTE) % len(LINES)],
            linewidth=1.8,
            marker=MARKERS[i % len(MARKERS)],
            markersize=4,
            markevery=max(1, len(members) // MARKED),
            clip_on=False,
        )
    _from_zero(axes, values(rows, figure.y), *(interval(rows, figure.y) if figure.interval else ()))
    _marks(axes, figure.marks)
    if len(groups) > 1:
        legend(canvas, lines, [str(group) for group in groups])
    axes.set(xlabel=figure.x_label, ylabel=figure.y_label)
    return canvas


def _marks(axes: Axes, marks: dict[str, float]) -> None:
    """Draw named vertical lines; names too near each other are on different lines."""
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
    """Draw horizontal bars, so that labels can be words; the first row is at the top."""
    rows = finding.tables[figure.table]
    thick = 0.8 / len(figure.series)
    labels = [textwrap.wrap(str(row[figure.label]), LABEL_LETTERS) for row in rows]
    row_height = max(0.17 * len(figure.series) + 0.13, 0.16 * max(map(len, labels)) + 0.1, 0.3)
    canvas, axes = axes_of(0.95 + row_height * max(len(rows), 2))
    for i, value in enumerate(figure.series.values()):
        low, high = interval(rows, value)
        rates, y = values(rows, value), np.arange(len(rows)) - 0.4 + thick * (i + 0.5)
        axes.barh(
            y, np.nan_to_num(rates), thick * 0.86, color=PALETTE[i % len(PALETTE)], linewidth=0
        )
        below, above = rates - low, high - rates
        known = np.isfinite(below) & np.isfinite(above)
        spread = np.maximum(0, [below[known], above[known]])
        axes.errorbar(
            rates[known], y[known], xerr=spread, fmt="none", ecolor=INK, elinewidth=1, capsize=2
        )
        dash: Any = {"textcoords": "offset points", "va": "center", "color": MUTED}
        for missing in y[np.isnan(rates)]:
            axes.annotate("–", (0, missing), xytext=(4, 0), **dash)
    axes.set(xlim=(0, 1.01 if figure.rates else None), xlabel=figure.y_label, yticks=[])
    for row, label in enumerate(labels):
        beside(axes, row, label)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    if len(figure.series) > 1:
        colours = [PALETTE[i % len(PALETTE)] for i in range(len(figure.series))]
        handles = [Patch(color=colour, linewidth=0) for colour in colours]
        legend(canvas, handles, list(figure.series))
    return canvas


@_canvas.register
def _rate_over_histogram(figure: RateOverHistogram, finding: Finding) -> Canvas:
    rows = finding.tables[figure.table]
    left, right, rate, share = (values(rows, name) for name in ("left", "right", "rate", "share"))
    canvas = Canvas(figsize=(WIDTH, 4.1), layout="constrained")
    upper, lower = canvas.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    centre = (left + right) / 2
    for x, a, b in zip(np.stack([left, right], 1), *interval(rows, "rate"), strict=True):
        upper.fill_between(x, a, b, color=PALETTE[0], alpha=0.18, linewidth=0)
    upper.hlines(rate, left, right, color=PALETTE[0], linewidth=1.8)
    upper.plot(centre, rate, "o", color=PALETTE[0], markersize=4, clip_on=False)
    upper.set(ylim=(0, 1.02), ylabel=figure.y_label)
    lower.bar(
        left, np.nan_to_num(share), right - left, align="edge", color=MUTED, alpha=0.55, linewidth=0
    )
    lower.set(xlabel=figure.x_label, ylabel="share of images")
    lower.grid(False, axis="x")
    canvas.align_ylabels([upper, lower])
    return canvas


@_canvas.register
def _scatter(figure: Scatter, finding: Finding) -> Canvas:
    rows = finding.tables[figure.table]
    x, y = values(rows, figure.x), values(rows, figure.y)
    reached = np.isfinite(y)
    canvas, axes = axes_of(3.4)
    # Thousands of vector marks would make the page heavy, so they become one raster image.
    style: dict[str, Any] = {
        "linestyle": "none",
        "markeredgewidth": 0,
        "rasterized": len(rows) > MANY_POINTS,
    }
    groups = grouped(rows, figure.group)
    names = [str(group) for group in groups] if figure.group else ["reached"]
    drawn = []
    for i, members in enumerate(groups.values()):
        across, up = values(members, figure.x), values(members, figure.y)
        known, colour = np.isfinite(up), PALETTE[i % len(PALETTE)]
        drawn += axes.plot(
            across[known], up[known], "o", color=colour, markersize=4, alpha=0.55, **style
        )
    _from_zero(axes, y)
    if not reached.all():
        above = axes.get_xaxis_transform()
        edge = np.full((~reached).sum(), 1.04)
        style |= {"transform": above, "clip_on": False}
        colour = PALETTE[len(groups) % len(PALETTE)]
        drawn += axes.plot(x[~reached], edge, "^", color=colour, markersize=5.5, alpha=0.7, **style)
        names.append("not reached")
    if len(names) > 1:
        legend(canvas, drawn, names)
    if not reached.any():
        axes.set_yticks([])
    axes.set(xlabel=figure.x_label, ylabel=figure.y_label)
    return canvas


_canvas.register(boxes)
_canvas.register(heatmap)
_canvas.register(gallery)
