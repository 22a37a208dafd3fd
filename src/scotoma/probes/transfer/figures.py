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


def figures(matrix: Matrix, examples: list[tuple[int, Cell]]) -> tuple[Figure, ...]:
    """Return bars for the audited model, a map of all pairs, and a gallery of `examples`."""
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
    return (bars, heat, *([_gallery(matrix, examples)] if examples else []))


def choose_examples(matrix: Matrix) -> list[tuple[int, Cell]]:
    """Choose a few images that examples from other models fool, each with an attack and source.

    Images that nothing else fools come first, then one a class. Each image comes with the strongest
    attack that fools it, preferably one that no earlier image shows.
    """
    cells = sorted(
        matrix.held_out or matrix.foreign,
        key=lambda cell: -cell.success.value if cell.success.n else 0.0,
    )
    labels, fooled = matrix.white_records["label"], matrix.union(cells) & matrix.correct
    table = pl.DataFrame({"row": np.arange(len(fooled)), "label": labels, "only": matrix.only})
    table = table.filter(fooled).with_columns(nth=pl.int_range(pl.len()).over("only", "label"))
    ordered = table.sort(pl.col("only").not_(), "nth", "label", "row")["row"]
    examples: list[tuple[int, Cell]] = []
    for row in ordered.head(SHOWN).to_list():
        used = [cell for _, cell in examples]
        fooling = [cell for cell in cells if cell.fooled[row]]
        examples.append((row, min(fooling, key=lambda cell: sum(cell is other for other in used))))
    return examples


def images(run: Run, matrix: Matrix, examples: list[tuple[int, Cell]]) -> np.ndarray:
    """Return original, adversarial image and difference of `examples`, (k, 3, c, h, w)."""
    triples = []
    for row, cell in examples:
        index = int(run.indices[row])
        original = run.claim.data.test.images(torch.tensor([index]))[0].numpy()
        units = run.crafted(
            matrix.attacks[cell.attack], matrix.makers[cell.source].model, "reading"
        )
        rows = pl.concat(
            unit.filter(pl.col("index") == index).select(rec.EXAMPLE) for unit in units
        )
        example = rows[rec.EXAMPLE].to_numpy().reshape(original.shape)
        triples.append([original, example, as_picture((example - original)[None])[0]])
    return np.array(triples)


def _gallery(matrix: Matrix, examples: list[tuple[int, Cell]]) -> Gallery:
    class_of = partial(class_name, matrix.claim.data.classes)
    labels = matrix.white_records["label"]
    only = sum(bool(matrix.only[row]) for row, _ in examples)
    note = f" The white-box attack does not fool the first {only}." if only else ""
    return Gallery(
        "examples",
        "Test images that the audited model classifies correctly, and examples made on other "
        f"models that fool it.{note}",
        images="examples",
        columns=["original", "example", "difference (grey is none; faint ones magnified)"],
        captions=[
            [
                class_of(labels[row]),
                f"classified as {class_of(int(cell.prediction[row]))}",
                f"{cell.attack} on {cell.source}",
            ]
            for row, cell in examples
        ],
        adversarial=True,
    )
