"""What the inequality probe draws: errors against numbers of values, Lorenz curves, maps and covered images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from scotoma.attribution.noise import TYPES
from scotoma.data.dataset import Split
from scotoma.probes.base import columns
from scotoma.probes.inequality.analysis import Cell, Reading
from scotoma.results.finding import Curve, Figure, Gallery, Row
from scotoma.utils.stats import finite

SHOWN = 5
EVEN = "equal shares"
FOR, AGAINST = (0.0, 0.38, 0.61), (0.77, 0.31, 0.0)
"""Colours of evidence for the label and against it; none is white."""
NOISED = {"I": "noise is added to", "II": "noise stands in the place of"}


@dataclass(frozen=True)
class Shown:
    """What the galleries show: test images, a map of each of them for each model, and images after the occlusions `cell`."""

    split: Split
    maps: list[pl.DataFrame]
    """columns index and map (h w), of the audited model and the reference"""
    cell: Cell
    covers: pl.DataFrame | None
    """as `inequality_looking.look_at_covers` gives it; None where no image fell"""

    @property
    def images(self) -> dict[str, np.ndarray]:
        """The arrays of the galleries, (rows, columns, 3, h, w) in [0, 1]."""
        found = {
            "maps": np.stack(
                [self._originals(self.maps[0]), *(self._maps(table) for table in self.maps)], axis=1
            )
        }
        if self.covers is not None:
            _, height, width = self.split.shape
            seen = [self.covers[f"image {order}"].to_numpy() for order in ("importance", "random")]
            covered = [_coloured(each.reshape(len(each), -1, height, width)) for each in seen]
            found["covers"] = np.stack([self._originals(self.covers), *covered], axis=1)
        return found

    def _originals(self, table: pl.DataFrame) -> np.ndarray:
        return _coloured(
            self.split.images(torch.from_numpy(table["index"].to_numpy(writable=True))).numpy()
        )

    def _maps(self, table: pl.DataFrame) -> np.ndarray:
        """Each map on its own scale: its largest value has the full colour."""
        maps = table["map"].to_numpy().reshape(len(table), 1, *self.split.shape[1:]).astype(float)
        strength = maps / np.maximum(np.abs(maps).max((1, 2, 3), keepdims=True), 1e-30)
        colour = np.where(strength > 0, np.reshape(FOR, (3, 1, 1)), np.reshape(AGAINST, (3, 1, 1)))
        return (1 - np.abs(strength) * (1 - colour)).astype(np.float32)


def maps_to_show(audited: Reading) -> Tensor:
    """A few test images, from the one whose evidence is spread most evenly to the one where it is most concentrated, int64."""
    return _spread(audited, np.arange(len(audited.table)), audited["gini"])


def cover_to_show(audited: Reading) -> Cell:
    """Of the occlusions that cover least, that in the colour in which importance adds most."""
    cells = [cell for cell in audited.cells if cell.attack == "occlusion"]
    least = min(cell.reach for cell in cells)
    return max((cell for cell in cells if cell.reach == least), key=lambda cell: cell.gap.value)


def covers_to_show(audited: Reading, cell: Cell) -> Tensor:
    """A few test images that fall to that occlusion, from a small cover to a large one, int64."""
    covered = audited.covered("importance", cell.kind, cell.size)
    fell = np.flatnonzero(np.isfinite(covered))
    return _spread(audited, fell, covered[fell])


def lorenz_rows(readings: list[Reading]) -> list[Row]:
    """Mean Lorenz curves, and the line of equal shares."""
    lines = {reading.name: reading["lorenz"].mean(0) for reading in readings} | {
        EVEN: np.array([0.0, 1.0])
    }
    return [
        {"model": name, "values": finite(place / (len(line) - 1)), "evidence": finite(value)}
        for name, line in lines.items()
        for place, value in enumerate(line)
    ]


def error_rows(readings: list[Reading], kind: str) -> list[Row]:
    """Error against the number of values under one type of noise: all orders of the audited model, two of the reference."""
    lines = {"importance": (0, "importance"), "random": (0, "random"), "reverse": (0, "reverse")}
    if len(readings) > 1:
        lines |= {"importance, reference": (1, "importance"), "random, reference": (1, "random")}
    return [
        {"order": line, "values": cell.size, **columns("error", cell.error(order))}
        for line, (number, order) in lines.items()
        for cell in readings[number].cells
        if (cell.attack, cell.kind) == ("noise", kind)
    ]


def figures(readings: list[Reading], shown: Shown) -> tuple[Figure, ...]:
    """In the order of the page: what was found first, then how concentrated the evidence is."""
    return (
        *(_errors(kind) for kind in TYPES),
        *([_covers(shown, shown.covers)] if shown.covers is not None else []),
        Curve(
            "lorenz",
            "Lorenz curves of the maps, the mean over images: what share of the evidence (absolute values) the values that count "
            "least have together. The further below the line of equal shares, the fewer values have all of it; the Gini "
            "coefficient is twice the area between the two.",
            table="lorenz",
            x="values",
            y="evidence",
            group="model",
            x_label="share of the values, the least important first",
            y_label="share of the evidence",
        ),
        _maps(readings, shown),
    )


def _errors(kind: str) -> Curve:
    return Curve(
        f"noise_{kind}",
        f"Type {kind}: {NOISED[kind]} so many values, the most important first, the least important first (reverse), or any "
        "(random). What the evidence in few values adds is the distance between importance and random; noise at random "
        "places already makes a weak model wrong. Bands are 95% intervals.",
        table=f"error_{kind}",
        x="values",
        y="error",
        interval=True,
        group="order",
        x_label="perturbed values",
        y_label="share of images that are wrong",
    )


def _maps(readings: list[Reading], shown: Shown) -> Gallery:
    ginis = [
        dict(zip(reading.table["index"], reading["gini"], strict=True)) for reading in readings
    ]
    index = shown.maps[0]["index"].to_list()
    return Gallery(
        "maps",
        "What counts for the label (blue) and against it (orange), from the image whose evidence is spread most evenly to the one "
        "where it is most concentrated. Each map has its own scale.",
        images="maps",
        columns=[
            "image",
            *(
                f"{reading.name} model" if reading.name == "audited" else reading.name
                for reading in readings
            ),
        ],
        captions=[
            [
                f"{int(shown.split.labels[row])}, test image {row}",
                *(f"Gini {gini[row]:.2f}" for gini in ginis),
            ]
            for row in index
        ],
    )


def _covers(shown: Shown, covers: pl.DataFrame) -> Gallery:
    pixels = shown.split.shape[1] * shown.split.shape[2]
    return Gallery(
        "covers",
        f"Images covered by squares in {colour_of(shown.cell)} until the model is wrong, {shown.cell.reach} pixels at most: n "
        "squares of radius r about the regions that count most, and about random ones; from a small cover to a large one.",
        images="covers",
        columns=["image", "important places", "random places"],
        captions=[
            [f"{int(shown.split.labels[row['index']])}, test image {row['index']}"]
            + [_cover(row, order, pixels) for order in ("importance", "random")]
            for row in covers.iter_rows(named=True)
        ],
    )


def _cover(row: Row, order: str, pixels: int) -> str:
    if not np.isfinite(row[f"covered {order}"]):
        return "none fools"
    covered = int(row[f"covered {order}"])
    size = f"n = {row[f'regions {order}']}, r = {row[f'radius {order}']}, {covered} px ({covered / pixels:.1%})"
    return f"{size}, taken for {row[f'prediction {order}']}"


def colour_of(cell: Cell) -> str:
    """The colour of a cover in a sentence."""
    return "the mean colour" if cell.kind == "mean" else cell.kind


def _coloured(images: np.ndarray) -> np.ndarray:
    """(n, 3, h, w)."""
    return images if images.shape[1] == 3 else np.repeat(images.mean(1, keepdims=True), 3, axis=1)


def _spread(audited: Reading, rows: np.ndarray, values: np.ndarray) -> Tensor:
    """The test images of a few rows, evenly from the smallest value to the largest."""
    if not len(rows):
        return torch.zeros(0, dtype=torch.int64)
    ordered = rows[np.argsort(values, kind="stable")]
    chosen = ordered[np.linspace(0, len(ordered) - 1, min(SHOWN, len(ordered))).round().astype(int)]
    return torch.from_numpy(audited.table["index"].to_numpy()[chosen])
