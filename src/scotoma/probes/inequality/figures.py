"""Figures of the inequality probe: errors, Lorenz curves, maps and covered images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from scotoma.attribution.noise import TYPES
from scotoma.data.dataset import Split, class_name
from scotoma.probes.base import columns, evenly
from scotoma.probes.inequality.analysis import Cell, ModelAnalysis
from scotoma.results.finding import Curve, Figure, Gallery, Row
from scotoma.utils.stats import finite

SHOWN = 5
EVEN = "equal shares"
FOR, AGAINST = (0.0, 0.38, 0.61), (0.77, 0.31, 0.0)
"""Colours of evidence for and against the label; white is no evidence."""
NOISED = {"I": "noise is added to", "II": "noise replaces"}


@dataclass(frozen=True)
class GalleryImages:
    """Content of the galleries: test images, their maps by model, and occluded images."""

    split: Split
    classes: Sequence[str]
    maps: list[pl.DataFrame]
    """columns index and map (h w), for the audited model and the reference"""
    cell: Cell
    covers: pl.DataFrame | None
    """table of `Measures.covers`; None if no image is fooled"""

    @property
    def images(self) -> dict[str, np.ndarray]:
        """Arrays of the galleries, (rows, columns, 3, h, w) in [0, 1]."""
        maps = [self._originals(self.maps[0]), *map(self._maps, self.maps)]
        arrays = {"maps": np.stack(maps, axis=1)}
        if self.covers is not None:
            _, height, width = self.split.shape
            occluded = [
                self.covers[f"image {order}"].to_numpy() for order in ("importance", "random")
            ]
            covered = [coloured(each.reshape(len(each), -1, height, width)) for each in occluded]
            arrays["covers"] = np.stack([self._originals(self.covers), *covered], axis=1)
        return arrays

    def label(self, index: int) -> str:
        """Return the class of a test image, for a caption."""
        return class_name(self.classes, int(self.split.labels[index]))

    def _originals(self, table: pl.DataFrame) -> np.ndarray:
        index = torch.from_numpy(table["index"].to_numpy(writable=True))
        return coloured(self.split.images(index).numpy())

    def _maps(self, table: pl.DataFrame) -> np.ndarray:
        """Return maps as images, each on its own scale."""
        maps = table["map"].to_numpy().reshape(len(table), 1, *self.split.shape[1:]).astype(float)
        strength = maps / np.maximum(np.abs(maps).max((1, 2, 3), keepdims=True), 1e-30)
        colour = np.where(strength > 0, np.reshape(FOR, (3, 1, 1)), np.reshape(AGAINST, (3, 1, 1)))
        return (1 - np.abs(strength) * (1 - colour)).astype(np.float32)


def maps_to_show(audited: ModelAnalysis) -> Tensor:
    """Choose a few test images, from the most even evidence to the most concentrated, int64."""
    return _spread(audited, np.arange(len(audited.table)), audited["gini"])


def cover_to_show(audited: ModelAnalysis) -> Cell:
    """Choose the smallest occlusion, in the colour with the widest gap."""
    cells = [cell for cell in audited.cells if cell.attack == "occlusion"]
    smallest = min(cell.reach for cell in cells)
    return max((cell for cell in cells if cell.reach == smallest), key=lambda cell: cell.gap.value)


def covers_to_show(audited: ModelAnalysis, cell: Cell) -> Tensor:
    """Choose a few test images that the occlusion fools, from a small cover to a large one."""
    covered = audited.covered("importance", cell.kind, cell.size)
    fooled = np.flatnonzero(np.isfinite(covered))
    return _spread(audited, fooled, covered[fooled])


def lorenz_rows(readings: list[ModelAnalysis]) -> list[Row]:
    """Return mean Lorenz curves, and the line of equal shares."""
    lines = {reading.name: reading["lorenz"].mean(0) for reading in readings}
    lines[EVEN] = np.array([0.0, 1.0])
    return [
        {"model": name, "values": finite(position / (len(line) - 1)), "evidence": finite(value)}
        for name, line in lines.items()
        for position, value in enumerate(line)
    ]


def error_rows(readings: list[ModelAnalysis], kind: str) -> list[Row]:
    """Return error against the number of noisy values, by order and model."""
    lines = {"importance": (0, "importance"), "random": (0, "random"), "reverse": (0, "reverse")}
    if len(readings) > 1:
        lines |= {"importance, reference": (1, "importance"), "random, reference": (1, "random")}
    return [
        {"order": line, "values": cell.size, **columns("error", cell.error(order))}
        for line, (number, order) in lines.items()
        for cell in readings[number].cells
        if (cell.attack, cell.kind) == ("noise", kind)
    ]


def figures(readings: list[ModelAnalysis], content: GalleryImages) -> tuple[Figure, ...]:
    """Return the figures in the order of the page."""
    return (
        *(_errors(kind) for kind in TYPES),
        *([_covers(content, content.covers)] if content.covers is not None else []),
        Curve(
            "lorenz",
            "Lorenz curves of the maps, mean over images: the share of the evidence (absolute "
            "values) in the least important values. The further the curve lies below the line of "
            "equal shares, the more concentrated the evidence; the Gini coefficient is twice the "
            "area between the two.",
            table="lorenz",
            x="values",
            y="evidence",
            group="model",
            x_label="share of the values, the least important first",
            y_label="share of the evidence",
        ),
        _maps(readings, content),
    )


def _errors(kind: str) -> Curve:
    return Curve(
        f"noise_{kind}",
        f"Type {kind}: {NOISED[kind]} this number of values, in the order of importance, in "
        "reverse or at random. The distance between importance and random is the effect of "
        "concentrated evidence; noise at random places already makes a weak model wrong. Bands "
        "are 95% intervals.",
        table=f"error_{kind}",
        x="values",
        y="error",
        interval=True,
        group="order",
        x_label="perturbed values",
        y_label="share of images that are wrong",
    )


def _maps(readings: list[ModelAnalysis], content: GalleryImages) -> Gallery:
    ginis = [
        dict(zip(reading.table["index"], reading["gini"], strict=True)) for reading in readings
    ]
    headings = {"audited": "audited model"}
    return Gallery(
        "maps",
        "Evidence for the label (blue) and against it (orange), from the image with the most even "
        "evidence to the one with the most concentrated. Each map has its own scale.",
        images="maps",
        columns=["image", *(headings.get(reading.name, reading.name) for reading in readings)],
        captions=[
            [
                f"{content.label(row)}, test image {row}",
                *(f"Gini {gini[row]:.2f}" for gini in ginis),
            ]
            for row in content.maps[0]["index"].to_list()
        ],
    )


def _covers(content: GalleryImages, covers: pl.DataFrame) -> Gallery:
    pixels = content.split.shape[1] * content.split.shape[2]
    return Gallery(
        "covers",
        f"Images covered by squares of {colour_of(content.cell)} until the model is wrong, at most "
        f"{content.cell.reach} pixels: n squares of radius r around the most important regions and "
        "around random ones; from a small cover to a large one.",
        images="covers",
        columns=["image", "important places", "random places"],
        captions=[
            [f"{content.label(row['index'])}, test image {row['index']}"]
            + [_cover(row, order, pixels, content.classes) for order in ("importance", "random")]
            for row in covers.iter_rows(named=True)
        ],
    )


def _cover(row: Row, order: str, pixels: int, classes: Sequence[str]) -> str:
    if not np.isfinite(row[f"covered {order}"]):
        return "not fooled"
    covered = int(row[f"covered {order}"])
    squares = f"n = {row[f'regions {order}']}, r = {row[f'radius {order}']}"
    share = f"{covered} px ({covered / pixels:.1%})"
    prediction = class_name(classes, row[f"prediction {order}"])
    return f"{squares}, {share}, classified as {prediction}"


def colour_of(cell: Cell) -> str:
    """Return the colour of a cover for a sentence."""
    return "the mean colour" if cell.kind == "mean" else cell.kind


def coloured(images: np.ndarray) -> np.ndarray:
    """Return images in colour, (n, 3, h, w)."""
    return images if images.shape[1] == 3 else np.repeat(images.mean(1, keepdims=True), 3, axis=1)


def _spread(audited: ModelAnalysis, rows: np.ndarray, values: np.ndarray) -> Tensor:
    """Choose the test images of a few rows, evenly from the smallest value to the largest."""
    ranked = rows[np.argsort(values, kind="stable")]
    few = ranked[evenly(len(ranked), SHOWN)]
    return torch.from_numpy(audited.table["index"].to_numpy()[few])
