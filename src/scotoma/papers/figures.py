"""Figures that items share: bars and curves with intervals, and images in colours."""

from __future__ import annotations

from typing import Any

import numpy as np

from scotoma.papers.item import SUMMARY
from scotoma.results.finding import Bars, Curve

FOR, AGAINST = np.array([0.78, 0.22, 0.0]), np.array([0.0, 0.38, 0.61])
"""Colours of evidence for the label and against it; no evidence is white."""
FULL = 0.99
"""Quantile of the size of a map's values that is drawn in full colour."""


def bars(
    name: str,
    caption: str,
    series: dict[str, str],
    y_label: str,
    table: str = SUMMARY,
    label: str = "model",
    rates: bool = True,
) -> Bars:
    """Return bars with intervals; `series` maps a legend label to a name given to `columns`."""
    return Bars(name, caption, table, label, series, y_label, rates)


def curve(
    name: str, caption: str, x: str, y: str, group: str, labels: tuple[str, str], **changes: Any
) -> Curve:
    """Return curves with intervals, from the table of the same name.

    Args:
        name: name of the figure and of the table.
        caption: caption.
        x, y, group: columns of the table.
        labels: of the two axes.
        changes: other fields of `Curve`, as `interval=False` for a curve without intervals.
    """
    fields: dict[str, Any] = {"group": group, "interval": True} | changes
    return Curve(name, caption, name, x, y, *labels, **fields)


def map_colours(maps: np.ndarray) -> np.ndarray:
    """Return colours (n, 3, h, w) for signed maps (n, c, h, w), each on its own scale."""
    net = maps.sum(1)
    size = np.quantile(np.abs(net), FULL, axis=(1, 2), keepdims=True)
    strength = np.divide(net, size, out=np.zeros_like(net), where=size > 0)
    strength = np.clip(strength, -1, 1)[:, None]
    ink = np.where(strength > 0, FOR[:, None, None], AGAINST[:, None, None])
    return (1 - np.abs(strength) * (1 - ink)).astype(np.float32)
