"""Box plots."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from scotoma.report.plot import axes_of, below, values
from scotoma.report.svg import INK, MUTED, PALETTE
from scotoma.results.finding import Boxes, Finding

WIDE = 78
"""Number of letters of all names on one line below the boxes."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
ROOM = 1.08
"""Length of the axis in largest values; what was not reached is above them."""


def boxes(figure: Boxes, finding: Finding) -> Canvas:
    """Draw a box for each label, and above it the share that was not reached."""
    rows = finding.tables[figure.table]
    labels = list(dict.fromkeys(str(row[figure.label]) for row in rows))
    heights = values(rows, figure.value)
    of = np.array([labels.index(str(row[figure.label])) for row in rows])
    canvas, axes = axes_of(3.4)
    finite = heights[np.isfinite(heights)]
    top = ROOM * (finite.max() if finite.size else 1.0) or 1.0
    reach = np.where(np.isfinite(heights), heights, np.inf)
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


def _box(sizes: np.ndarray, top: float) -> dict[str, Any]:
    quantiles = np.quantile(sizes, QUANTILES, method="inverted_cdf")
    low, first, middle, third, high = np.minimum(quantiles, top)
    return {"whislo": low, "q1": first, "med": middle, "q3": third, "whishi": high}
