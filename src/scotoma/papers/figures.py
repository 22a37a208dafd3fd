"""Figures that items share, each with the table or the images that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scotoma.results.finding import Bars, Curve, Figure, Gallery, Row

SUMMARY = "summary"
"""Name of the table that is printed in place of an item's rows, if the item has one."""
INTERVALS = ", with 95% intervals."
"""End of the captions of `bars` and `curve`."""

Drawing = tuple[Figure, list[Row] | np.ndarray | None]
"""A figure, and its table or images; None if the finding has these already."""


def bars(
    name: str,
    caption: str,
    series: Mapping[str, str],
    y_label: str,
    rows: list[Row] | None = None,
    label: str = "model",
    table: str = SUMMARY,
    rates: bool = True,
) -> Drawing:
    """Draw bars with intervals.

    Args:
        series: legend label to a name given to `columns`.
        rows: table of the name of the figure; None if the finding has the table already.
        label: column that names a group of bars.
    """
    table, caption = table if rows is None else name, caption + INTERVALS
    return Bars(name, caption, table, label, dict(series), y_label, rates), rows


def curve(
    name: str,
    caption: str,
    rows: list[Row],
    columns: tuple[str, str, str],
    labels: tuple[str, str],
    **changes: Any,
) -> Drawing:
    """Draw curves, with intervals unless the table has none.

    Args:
        name: name of the figure and of the table.
        columns: x, y and group.
        labels: of the two axes.
        changes: other fields of `Curve`.
    """
    x, y, group = columns
    ranged = any(f"{y}_low" in row for row in rows)
    caption += INTERVALS if ranged else "."
    fields: dict[str, Any] = {"group": group, "interval": ranged} | changes
    return Curve(name, caption, name, x, y, *labels, **fields), rows


def gallery(
    name: str, caption: str, columns: Mapping[str, tuple[np.ndarray, Sequence[str]]]
) -> Drawing:
    """Draw images side by side.

    Args:
        columns: images (n, c, h, w) of a column and the text below each, by heading.
    """
    images, texts = zip(*columns.values(), strict=True)
    captions = [list(line) for line in zip(*texts, strict=True)]
    return Gallery(name, caption, name, list(columns), captions), np.stack(images, axis=1)
