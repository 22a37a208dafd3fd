"""Galleries: images beside one another."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle

from scotoma.report.svg import MUTED, WIDTH
from scotoma.results.finding import Finding, Gallery

MARGIN, GAP, LINE = 9.0, 8.0, 11.0
LARGEST_TILE, SMALLEST_TILE = 92.0, 56.0
"""Lengths, in points."""
LETTER = 4.6
"""Mean width of a letter of the 8 pt captions, in points."""


def gallery(figure: Gallery, finding: Finding) -> Canvas:
    """Draw tiles of one size in the range 0 to 1, as the model sees them, never rescaled."""
    images = finding.images[figure.images]
    wide = len(figure.columns)
    tile = min(LARGEST_TILE, max(SMALLEST_TILE, (72 * WIDTH - 2 * MARGIN + GAP) / wide - GAP))
    letters = int(tile / LETTER)
    captions = [[textwrap.wrap(caption, letters) for caption in row] for row in figure.captions]
    headings = [textwrap.wrap(heading, letters) for heading in figure.columns]
    under = [LINE * max(map(len, row)) + 4 for row in captions]
    top = MARGIN + LINE * max(map(len, headings)) + 5
    width = 2 * MARGIN + wide * (tile + GAP) - GAP
    height = top + sum(tile + text + GAP for text in under) + MARGIN - GAP
    canvas = Canvas(figsize=(width / 72, height / 72))
    canvas.suppressComposite = True  # each image in its own pixels
    axes = canvas.add_axes((0, 0, 1, 1))  # one for all tiles: an Axes takes longer than its image
    axes.set_axis_off()

    def write(x: float, y: float, lines: list[str], **style: Any) -> None:
        for i, line in enumerate(lines):
            at = x / width, 1 - (y + LINE * (i + 0.8)) / height
            canvas.text(*at, line, ha="center", va="baseline", **style)

    centres = [MARGIN + column * (tile + GAP) + tile / 2 for column in range(wide)]
    for x, heading in zip(centres, headings, strict=True):
        write(x, top - 5 - LINE * len(heading), heading, fontsize=8.5, fontweight="bold")
    y = top
    for tiles, texts, text_height in zip(images, captions, under, strict=True):
        for x, image, lines in zip(centres, tiles, texts, strict=True):
            box = ((x - tile / 2) / width, 1 - (y + tile) / height, tile / width, tile / height)
            _tile(axes, box, np.asarray(image, float))
            write(x, y + tile + 2, lines, fontsize=8)
        y += tile + text_height + GAP
    axes.set(xlim=(0, 1), ylim=(0, 1))
    return canvas


def _tile(axes: Axes, box: tuple[float, float, float, float], image: np.ndarray) -> None:
    left, bottom, width, height = box
    pixels = image if len(image) == 3 else np.repeat(image.mean(0, keepdims=True), 3, axis=0)
    levels = np.rint(255 * pixels.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)
    extent = (left, left + width, bottom, bottom + height)
    axes.imshow(levels, interpolation="none", aspect="auto", extent=extent)
    axes.add_patch(Rectangle((left, bottom), width, height, fill=False, lw=0.6, ec=MUTED))
