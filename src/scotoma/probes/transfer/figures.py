"""Figures of the transfer probe."""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl
import torch

from scotoma.data.dataset import class_name
from scotoma.execution import records as rec
from scotoma.execution.run import Run
from scotoma.probes.base import as_picture
from scotoma.probes.transfer.matrix import ANY, Cell, Matrix
from scotoma.results.finding import Bars, Figure, Gallery, Heatmap

SHOWN = 6


def figures(matrix: Matrix, shown: list[tuple[int, Cell]]) -> tuple[Figure, ...]:
    """Return bars for the audited model, a map of all pairs, and the images `shown`."""
    heat = Heatmap(
        "pairs",
        "Share of the images that a target classifies correctly and the strongest attack on a "
        "source fools. If target and source are the same, the attack is white-box; the first line "
        "is the audited model.",
        table="pairs",
        x="source",
        y="target",
        value="success",
        x_label="examples made on",
        y_label="shown to",
        value_label="success of the strongest attack",
        high_is_bad=True,
    )
    bars = Bars(
        "by_source",
        "Share of the correctly classified images on which the examples of each attack and source "
        "fool the audited model, with 95% intervals.",
        table="by_source",
        label="source",
        series={attack: attack for attack in (*matrix.attacks, ANY)},
        y_label="success on the audited model",
    )
    return (bars, heat, *([_gallery(matrix, shown)] if shown else []))


def chosen(matrix: Matrix) -> list[tuple[int, Cell]]:
    """Choose a few images that examples from other models fool, each with an attack and source.

    Images that nothing else fools come first, then one a class. For each the strongest attack is
    shown that fools it, preferably one that is not shown yet.
    """
    cells = sorted(
        matrix.held_out or matrix.foreign,
        key=lambda cell: -cell.success.value if cell.success.n else 0.0,
    )
    labels, fooled = matrix.white_records["label"], matrix.union(cells) & matrix.correct
    table = pl.DataFrame({"row": np.arange(len(fooled)), "label": labels, "only": matrix.only})
    table = table.filter(fooled).with_columns(nth=pl.int_range(pl.len()).over("only", "label"))
    ordered = table.sort(pl.col("only").not_(), "nth", "label", "row")["row"]
    shown: list[tuple[int, Cell]] = []
    for row in ordered.head(SHOWN).to_list():
        used = [cell for _, cell in shown]
        beating = [cell for cell in cells if cell.fooled[row]]
        shown.append((row, min(beating, key=lambda cell: sum(cell is other for other in used))))
    return shown


def images(run: Run, matrix: Matrix, shown: list[tuple[int, Cell]]) -> np.ndarray:
    """Return original, example and difference of the images `shown`, (k, 3, c, h, w)."""
    triples = []
    for row, cell in shown:
        index = int(run.indices[row])
        original = run.claim.data.test.images(torch.tensor([index]))[0].numpy()
        made = run.crafted(matrix.attacks[cell.attack], matrix.makers[cell.source].model, "reading")
        found = pl.concat(
            unit.filter(pl.col("index") == index).select(rec.EXAMPLE) for unit in made
        )
        example = found[rec.EXAMPLE].to_numpy().reshape(original.shape)
        triples.append([original, example, as_picture((example - original)[None])[0]])
    return np.array(triples)


def _gallery(matrix: Matrix, shown: list[tuple[int, Cell]]) -> Gallery:
    named = partial(class_name, matrix.claim.data.classes)
    labels = matrix.white_records["label"]
    alone = sum(bool(matrix.only[row]) for row, _ in shown)
    said = f" The white-box attack does not fool the first {alone}." if alone else ""
    return Gallery(
        "examples",
        "Test images that the audited model classifies correctly, and examples made on other "
        f"models that fool it.{said}",
        images="examples",
        columns=["original", "example", "difference (grey is none; faint ones magnified)"],
        captions=[
            [
                named(labels[row]),
                f"classified as {named(int(cell.prediction[row]))}",
                f"{cell.attack} on {cell.source}",
            ]
            for row, cell in shown
        ],
        adversarial=True,
    )
