"""Attribution maps and covered images of a few test images, as in the paper's Figures 2 and 4."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import polars as pl
from torch import Tensor

from scotoma.attribution.colour import COLOURS
from scotoma.execution.fingerprint import describe
from scotoma.execution.run import Measurement
from scotoma.papers.duan2023.claims import squares
from scotoma.papers.duan2023.examination import Measurements, Models
from scotoma.papers.figures import Drawing, gallery
from scotoma.probes.inequality.figures import coloured
from scotoma.probes.inequality.measurements import colour_of

SHOWN = 4
FOR, AGAINST = np.array([0.78, 0.22, 0.0]), np.array([0.0, 0.38, 0.61])
"""Colours of evidence for the label and against it; no evidence is white."""
FULL = 0.99
"""Quantile of the size of a map's values that is drawn in full colour."""


def pictures(models: Models) -> list[Drawing]:
    """Return galleries of the first images of the random order, with their images."""
    first = next(iter(models.values()))
    index, data = first.frame["index"].to_torch()[:SHOWN], first.run.claim.data
    originals, labels = data.test.images(index).numpy(), data.test.labels[index].tolist()
    titles = [
        f"test image {number}: {data.classes[label]}"
        for number, label in zip(index.tolist(), labels, strict=True)
    ]
    maps = {
        name: (_map(each, index), [f"Gini {gini:.2f}" for gini in each.gini()[:SHOWN]])
        for name, each in models.items()
    }
    occlusions, ends = first.examination.occlusions, (next(iter(models)), list(models)[-1])
    covered = {
        f"{name}, {colour_of(occlusions[number])}": _covered(models[name], index, number)
        for name, number in product(dict.fromkeys(ends), range(len(occlusions))[-len(COLOURS) :])
    }
    of_maps = (
        "Attribution maps for the true class: evidence for it in red, against it in blue, each on "
        f"its own scale (full colour at the {FULL:.0%} quantile), with the global Gini coefficient."
    )
    of_covered = (
        f"Images under {squares(*first.settings[-1])} pixels over their most important places: the "
        "first cover that fools the model, or the image itself."
    )
    return [
        gallery("maps", of_maps, {"original": (coloured(originals), titles)} | maps),
        gallery("covered", of_covered, {"original": (originals, titles)} | covered),
    ]


def _map(each: Measurements, index: Tensor) -> np.ndarray:
    """Return maps in colours, (n, 3, h, w), each on its own scale."""
    frame = _measure(each, index, "map", each.examination.shown)
    net = frame["map"].to_numpy().reshape(-1, *each.run.claim.data.shape[1:])
    size = np.quantile(np.abs(net), FULL, axis=(1, 2), keepdims=True)
    strength = np.divide(net, size, out=np.zeros_like(net), where=size > 0)
    strength = np.clip(strength, -1, 1)[:, None]
    ink = np.where(strength > 0, FOR[:, None, None], AGAINST[:, None, None])
    return (1 - np.abs(strength) * (1 - ink)).astype(np.float32)


def _covered(each: Measurements, index: Tensor, number: int) -> tuple[np.ndarray, list[str]]:
    """Return images under an occlusion, and what the model says of each."""
    frame = _measure(each, index, f"cover {number}", partial(each.examination.covers, number))
    data, name = each.run.claim.data, "importance"
    images = frame[f"image {name}"].to_numpy().reshape(-1, *data.shape)
    captions = [
        f"{data.classes[row[f'prediction {name}']]}, {row[f'regions {name}']} of {side}x{side}"
        if (side := 2 * row[f"radius {name}"])
        else "not fooled"
        for row in frame.iter_rows(named=True)
    ]
    return images, captions


def _measure(each: Measurements, index: Tensor, what: str, measure: Measurement) -> pl.DataFrame:
    config = describe(each.examination) | {"what": what}
    return each.run.subset(index).map_images("duan2023 pictures", config, measure)
