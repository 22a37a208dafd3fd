"""Figures of the norms probe: accuracy against distance, and the nearest adversarial images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from scotoma.claim import Claim
from scotoma.data.dataset import class_name
from scotoma.execution.run import Run
from scotoma.probes.base import columns, evenly
from scotoma.probes.norms.analysis import Kind, NormAnalysis
from scotoma.results.finding import Curve, Figure, Gallery, Row
from scotoma.threat import Threat
from scotoma.utils.stats import finite
from scotoma.utils.text import norm_name

POINTS = 40
SHOWN = 5
FAR = 0.9
"""Share of the fooled images whose distances a curve covers."""
LINES: dict[str, Kind | None] = {
    "all attacks": None,
    "gradient-based": "gradient",
    "decision-based": "decision",
}


def amount(bound: Threat) -> str:
    """Return a distance for a sentence: "12 pixels", "L2 1.5"."""
    if bound.norm == "l0":
        return f"{bound.eps:.0f} pixel{'' if bound.eps == 1 else 's'}"
    return f"{norm_name(bound.norm)} {bound.eps:.3g}"


def curve(reading: NormAnalysis) -> list[Row]:
    """Return accuracy at distances from 0 to beyond the bound and most distances."""
    farthest = 2 * reading.bound.eps
    if reading.fooled.any():
        farthest = max(farthest, np.quantile(reading.nearest[reading.fooled], FAR))
    if reading.bound.norm == "l0":
        sizes = np.unique(np.linspace(0, np.ceil(farthest), POINTS + 1).round())
    else:
        sizes = np.linspace(
            0, min(1.0, farthest) if reading.bound.norm == "linf" else farthest, POINTS + 1
        )
    rows = []
    for name, kind in LINES.items():
        distances = reading.nearest if kind is None else reading.smallest(kind)
        if distances is not None:
            rows += [
                {
                    "attacks": name,
                    "distance": finite(size),
                    **columns("accuracy", reading.accuracy(distances, float(size))),
                }
                for size in sizes
            ]
    return rows


def curves(claim: Claim, readings: dict[str, NormAnalysis]) -> list[Figure]:
    return [
        Curve(
            f"curve_{norm}",
            "Share of all audited images that are classified correctly under every perturbation "
            f"found, against its {norm_name(norm)} size, with 95% intervals. If the line of "
            "decision-based attacks lies clearly below that of gradient-based ones, gradients "
            "mislead.",
            table=f"curve_{norm}",
            x="distance",
            y="accuracy",
            interval=True,
            group="attacks",
            x_label="changed pixels" if norm == "l0" else f"{norm_name(norm)} perturbation size",
            y_label="accuracy",
            marks={"claimed eps" if norm == claim.threat.norm else "bound": reading.bound.eps},
        )
        for norm, reading in readings.items()
    ]


def example_rows(readings: dict[str, NormAnalysis]) -> np.ndarray:
    """Choose a few fooled images from easy to hard, fooled in every norm if there are any."""
    fooled = [reading.fooled for reading in readings.values()]
    candidates = np.flatnonzero(np.all(fooled, axis=0))
    if not len(candidates):
        candidates = np.flatnonzero(np.any(fooled, axis=0))
    sizes = [reading.nearest[candidates] / reading.bound.eps for reading in readings.values()]
    hardness = np.mean(sizes, axis=0)
    ranked = candidates[np.argsort(hardness, kind="stable")]
    return ranked[evenly(len(ranked), SHOWN)]


def images(run: Run, readings: dict[str, NormAnalysis], examples: np.ndarray) -> np.ndarray:
    """Return images and their nearest examples in each norm, (k, 1 + norms, c, h, w).

    Without an example the image itself is shown.
    """
    index = next(iter(readings.values())).rows["index"].to_numpy()[examples]
    originals = run.claim.data.test.images(torch.from_numpy(index)).numpy()
    grid = np.stack([originals] * (1 + len(readings)), axis=1)
    for column, reading in enumerate(readings.values(), start=1):
        rows = np.flatnonzero(reading.fooled[examples])
        if len(rows):
            attacks = reading.rows[f"{reading.bound.norm}_attack"][
                examples[rows].tolist()
            ].to_list()
            grid[rows, column] = run.examples(attacks, None, index[rows].tolist())[2]
    return grid


def gallery(
    readings: dict[str, NormAnalysis], examples: np.ndarray, classes: Sequence[str]
) -> Gallery:
    return Gallery(
        "examples",
        "The nearest adversarial images found in each norm, from an image that is easy to fool to "
        "one that is hard, by the mean of its distances in units of the bounds.",
        images="examples",
        columns=["original", *map(norm_name, readings)],
        captions=[
            [_original(readings, row, classes)]
            + [_example(reading, row, classes) for reading in readings.values()]
            for row in examples.tolist()
        ],
        adversarial=True,
    )


def _original(readings: dict[str, NormAnalysis], row: int, classes: Sequence[str]) -> str:
    records = next(iter(readings.values())).rows
    return f"{class_name(classes, records['label'][row])}, test image {records['index'][row]}"


def _example(reading: NormAnalysis, row: int, classes: Sequence[str]) -> str:
    if not reading.fooled[row]:
        return "none found"
    prediction, attack = reading.example(row)
    size = amount(Threat(reading.bound.norm, float(reading.nearest[row])))
    return f"{size}, classified as {class_name(classes, prediction)}, by {attack}"
