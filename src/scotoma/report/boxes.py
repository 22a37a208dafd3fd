"""Box plots."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from scotoma.report.plot import axes_of, below, grouped, values
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
    heights = values(rows, figure.value)
    finite = heights[np.isfinite(heights)]
    top = ROOM * (finite.max() if finite.size else 1.0) or 1.0
    reach = {
        str(label): np.nan_to_num(values(members, figure.value), nan=np.inf, posinf=np.inf)
        for label, members in grouped(rows, figure.label).items()
    }
    canvas, axes = axes_of(3.4)
    axes.bxp(
        [_box(sizes, top) for sizes in reach.values()],
        positions=range(len(reach)),
        widths=0.5,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": PALETTE[0], "alpha": 0.35, "edgecolor": PALETTE[0]},
        medianprops={"color": INK, "linewidth": 1.8},
        whiskerprops={"color": PALETTE[0]},
        capprops={"color": PALETTE[0]},
    )
    style: Any = {"ha": "center", "va": "bottom", "fontsize": 9, "color": MUTED}
    for i, sizes in enumerate(reach.values()):
        if missing := float(np.isinf(sizes).mean()):
            axes.annotate(f"∞ {missing:.0%}", (i, top), **style)
    axes.set(
        ylim=(min(0.0, float(finite.min())) if finite.size else 0, top),
        ylabel=figure.y_label,
        xticks=[],
    )
    axes.grid(False, axis="x")
    width = max(6, WIDE // len(reach) - 2)
    names = [textwrap.wrap(label, width) for label in reach]
    for i, name in enumerate(names):
        below(axes, i, name)
    axes.set_xlabel("\n" * max(map(len, names)))
    return canvas


def _box(sizes: np.ndarray, top: float) -> dict[str, Any]:
    quantiles = np.quantile(sizes, QUANTILES, method="inverted_cdf")
    low, first, middle, third, high = np.minimum(quantiles, top)
    return {"whislo": low, "q1": first, "med": middle, "q3": third, "whishi": high}
