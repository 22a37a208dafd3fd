"""Figure 5: whether the distance to the training data gives a blind-spot image away."""

from __future__ import annotations

import numpy as np
import polars as pl

from scotoma.execution.run import Run, describe
from scotoma.metrics.neighbours import mean_neighbour_distance
from scotoma.metrics.risk import auroc
from scotoma.papers.item import Context, row
from scotoma.papers.zhang2019 import published
from scotoma.probes.distance.probe import NEIGHBOURS
from scotoma.results.finding import Curve, Finding, Row
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.stats import finite, median

DETECTOR = 0.7
"""Area under the ROC curve from which a detector is usually called acceptable (Hosmer and Lemeshow)."""
BINS = 30
TAIL = 0.995
"""Images beyond this quantile of the distance join the last bin."""


class Figure5:
    """Distances to the training data before and after a scale and shift."""

    title = "Figure 5: distances of original and scaled images"
    source = "Zhang et al. 2019, section 4.4, Figure 5"
    models = ("mnist-pgd", "fashion-pgd")

    def measure(self, context: Context, name: str) -> tuple[list[Row], Finding]:
        rows, tables, figures, parts, hidden = [], {}, [], [], []
        for model in self.models:
            run = context.run(model)
            data = run.claim.data.name
            alpha, beta = published.FIGURE5[data]
            original, moved = _distances(run, ScaleShift(alpha, beta))
            found = auroc(moved, original, run.seed, paired=True)
            keys = {"data": data, "alpha": alpha, "beta": beta}
            rows.append(row(keys, "AUROC of distance", found))
            for which, values in (("original", original), ("moved", moved)):
                rows.append(row(keys, f"median distance, {which}", median(values)))
            hidden.append(max(found.high, 1 - found.low) < DETECTOR)
            parts.append(
                f"{data} at ({alpha:g}, {beta:g}) {found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
            )
            tables[data] = _histogram(original, moved, f"alpha {alpha:g}, beta {beta:g}")
            figures.append(_curve(data, model))
        return rows, Finding(
            probe=name,
            question=self.title,
            verdict="reproduced" if all(hidden) else "differs",
            rule=(
                f"reproduced if on both data sets distance is no acceptable detector of the change: its AUROC and interval lie "
                f"inside {1 - DETECTOR:.1f} to {DETECTOR:.1f} (0.5 is a guess; below it images come nearer); else differs"
            ),
            headline=f"As a detector of the change the distance to the training data has an AUROC of {' and '.join(parts)}.",
            tables=tables,
            figures=tuple(figures),
            notes=(
                f"All test images; mean Euclidean distance to the {NEIGHBOURS} nearest training images in the features of the "
                "robust model, whose scale the paper's axes have. The paper prints curves and no numbers, and judges by eye. The "
                "test images and their moved copies are compared pair by pair when the interval is bootstrapped.",
            ),
        )


def _distances(run: Run, change: ScaleShift) -> tuple[np.ndarray, np.ndarray]:
    """Distance of every test image to the training data, and of its moved copy."""
    data = run.claim.data

    def compute() -> pl.DataFrame:
        assert data.train is not None
        train, original = run.features(data.train, None), run.features(data.test, None)
        moved = run.features(data.test, None, transform=change)
        distance = mean_neighbour_distance(train, np.concatenate([original, moved]), NEIGHBOURS)
        return pl.DataFrame(
            {"original": distance[: len(original)], "moved": distance[len(original) :]}
        )

    table = run.table("moved distance", {"change": describe(change), "k": NEIGHBOURS}, compute)
    return table["original"].to_numpy(), table["moved"].to_numpy()


def _histogram(original: np.ndarray, moved: np.ndarray, change: str) -> list[Row]:
    """Shares over common bins, each bin at its middle."""
    both = np.concatenate([original, moved])
    edges = np.linspace(both.min(), np.quantile(both, TAIL), BINS + 1)
    rows = []
    for images, distances in {"original": original, change: moved}.items():
        share = np.histogram(np.minimum(distances, edges[-1]), edges)[0] / len(distances)
        middles = zip((edges[1:] + edges[:-1]) / 2, share, strict=True)
        rows += [
            {"images": images, "distance": finite(middle), "share": finite(value)}
            for middle, value in middles
        ]
    return rows


def _curve(data: str, model: str) -> Curve:
    return Curve(
        data,
        f"How the test images of {data} and their moved copies spread over the distance to the training data, in the features of "
        f"{model}.",
        table=data,
        x="distance",
        y="share",
        group="images",
        x_label="distance to the training data",
        y_label="share of images",
    )
