"""Distributions beside one another."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from scotoma.report.plot import axes_of, below, values
from scotoma.report.svg import INK, MUTED, PALETTE
from scotoma.results.finding import Boxes, Finding

WIDE = 78
"""Letters of all names below the boxes, one line deep."""
SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
ROOM = 1.08
"""Of the axis, above the largest value: what was not reached lies there."""


def boxes(figure: Boxes, finding: Finding) -> Canvas:
    """A box each, and the share that was not reached above it."""
    rows = finding.tables[figure.table]
    labels = list(dict.fromkeys(str(row[figure.label]) for row in rows))
    given = values(rows, figure.value)
    of = np.array([labels.index(str(row[figure.label])) for row in rows])
    canvas, axes = axes_of(3.4)
    finite = given[np.isfinite(given)]
    top = ROOM * (finite.max() if finite.size else 1.0) or 1.0
    reach = np.where(np.isfinite(given), given, np.inf)
    axes.bxp(
        [_box(reach[of == i], top) for i in range(len(labels))],
        positions=range(len(labels)),
        widths=0.5,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": PALETTE[0], "alpha": 0.35, "edgecolor": PALETTE[0]},
        medianprops={"color": INK, "linewidth": 1.8},
        whiskerprops={"color": PALETTE[0]},
        capprops={"color": PALETTE[0]},
    )
    for i in range(len(labels)):
        missing = float(np.isinf(reach[of == i]).mean())
        if missing:
            axes.annotate(
                f"∞ {missing:.0%}", (i, top), ha="center", va="bottom", fontsize=9, color=MUTED
            )
    axes.set(
        ylim=(min(0.0, float(finite.min())) if finite.size else 0, top),
        ylabel=figure.y_label,
        xticks=[],
    )
    axes.grid(False, axis="x")
    width = max(6, WIDE // max(1, len(labels)) - 2)
    for i, label in enumerate(labels):
        below(axes, i, textwrap.wrap(label, width))
    lines = max((len(textwrap.wrap(label, width)) for label in labels), default=1)
    axes.set_xlabel("\n" * lines)
    return canvas


def _box(found: np.ndarray, top: float) -> dict[str, Any]:
    low, first, middle, third, high = np.minimum(
        np.quantile(found, SHARES, method="inverted_cdf"), top
    )
    return {"whislo": low, "q1": first, "med": middle, "q3": third, "whishi": high}
