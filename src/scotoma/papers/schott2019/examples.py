"""The nearest adversarial images of each model, a gallery a norm."""

from __future__ import annotations

import numpy as np
import torch

from scotoma.claim import Threat
from scotoma.papers.schott2019.measured import Measured
from scotoma.probes.norms.figures import amount
from scotoma.results.finding import Gallery
from scotoma.utils.text import norm_name

SHOWN = 4


def examples(found: dict[str, Measured]) -> tuple[dict[str, np.ndarray], list[Gallery]]:
    """The arrays and galleries by norm: a few images that every model has right and that fell everywhere, an image a line, a model
    a column; the images are as hard as most, by their mean rank over models and norms."""
    rows = _chosen(found)
    if not len(rows):
        return {}, []
    first = next(iter(found.values()))
    index = first.readings["l2"].tried[0].records["index"].to_numpy()[rows]
    originals = first.run.claim.data.test.images(torch.from_numpy(index)).numpy()
    arrays, galleries = {}, []
    for norm in first.readings:
        columns = [originals, *(_nearest(each, norm, rows, index) for each in found.values())]
        arrays[f"examples_{norm}"] = np.stack(columns, axis=1)
        captions = [
            [f"test image {at}", *(_caption(each, norm, place) for each in found.values())]
            for at, place in zip(index.tolist(), rows.tolist(), strict=True)
        ]
        galleries.append(
            Gallery(
                f"examples_{norm}",
                f"The nearest adversarial images in {norm_name(norm)} that any attack found.",
                images=f"examples_{norm}",
                columns=["original", *found],
                captions=captions,
            )
        )
    return arrays, galleries


def _chosen(found: dict[str, Measured]) -> np.ndarray:
    reads = [read for each in found.values() for read in each.readings.values()]
    fell = np.flatnonzero(np.all([read.broken for read in reads], axis=0))
    hardness = (
        np.mean([read.nearest[fell].argsort().argsort() for read in reads], axis=0)
        if len(fell)
        else fell
    )
    ordered = fell[np.argsort(hardness, kind="stable")]
    return (
        ordered[
            np.linspace(0, len(ordered) - 1, min(SHOWN, len(ordered)) + 2).round().astype(int)[1:-1]
        ]
        if len(ordered)
        else ordered
    )


def _nearest(each: Measured, norm: str, rows: np.ndarray, index: np.ndarray) -> np.ndarray:
    read = each.readings[norm]
    shape = each.run.claim.data.shape
    made = np.zeros((len(rows), *shape), np.float32)
    for number in np.unique(read.finder[rows]):
        of = np.flatnonzero(read.finder[rows] == number)
        made[of] = each.run.examples(read.tried[number].attack, None, index[of].tolist())[2]
    return made


def _caption(each: Measured, norm: str, row: int) -> str:
    read = each.readings[norm]
    by = read.tried[read.finder[row]]
    size = amount(Threat(norm, float(read.nearest[row])))
    return f"{by.records['adversarial_prediction'][row]}, {size}, {by.name}"
