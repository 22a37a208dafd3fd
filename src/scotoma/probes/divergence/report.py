"""The finding of the divergence probe: verdict, numbers, tables, figures and notes."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl

from scotoma.metrics.class_divergence import FEWEST
from scotoma.metrics.density import MARGIN, SPACING, kde_divergence
from scotoma.metrics.resampling import DRAWS, Comparison, average
from scotoma.metrics.two_sample import COMPONENTS, NEIGHBOURS, SIDE
from scotoma.results.finding import Bars, Figure, Finding, Row, Scatter, Verdict
from scotoma.utils.stats import finite

QUESTION = "Do the test set and the training set come from one distribution?"
FAR = 0.7
"""AUC above which a classifier separates the sets well."""
ALL = -1
"""Label of a measure over all classes together."""
SHOWN = 1000
"""Number of points of each set in the figure."""
MOST_BARS = 30
"""Largest number of classes that are drawn; the table always has all."""
CHOICES: dict[str, dict[str, float]] = {
    "as reported": {},
    "nodes twice as far apart": {"spacing": 2 * SPACING},
    "box without a margin": {"margin": 0.0},
    "uniform part of 1e-6": {"floor": 1e-6},
    "uniform part of 1e-12": {"floor": 1e-12},
    "uniform part of 1e-100": {"floor": 1e-100},
}
"""Choices for what the paper leaves open about the integral."""

Measures = dict[str, dict[int, Comparison]]
"""Measures by name (kl, knn_kl, auc) and label."""


def far_kl(far: float) -> float:
    """Return the K-L divergence of two Gaussians that a classifier separates with AUC `far`.

    They have equal covariance; it is the square of the normal quantile of `far`.

    >>> round(far_kl(0.7), 3)
    0.275
    """
    return NormalDist().inv_cdf(far) ** 2


def rule(far: float) -> str:
    """Return how `verdict` decides."""
    return (
        "A measure is beyond chance if it is larger than between parts of the training set in each "
        f"of {DRAWS} random draws (probability 1/{DRAWS + 1} by chance, 5% for three measures). "
        "Holds: none of the three measures is beyond chance. Broken: one is, and it is large: the "
        f"95% interval of the AUC lies above {far:g}, or a K-L divergence is {far_kl(far):.3f} "
        f"nats larger than within the training set (two Gaussians with AUC {far:g} have that "
        "divergence). Otherwise it is weak. Not applicable: no training split, or no class with "
        f"{FEWEST} images in both sets."
    )


@dataclass(frozen=True)
class Results:
    """All measurements of the probe.

    Args:
        classes: names of the classes, by label.
        plane: the embedding, with columns set ("training" or "test"), label, x and y.
        measures: the measures; at least one class has kl.
        where: name of the layer whose features are measured.
        perplexity: perplexity of t-SNE.
        far: threshold of the verdict, an AUC.
    """

    classes: tuple[str, ...]
    plane: pl.DataFrame
    measures: Measures
    where: str
    perplexity: float
    far: float = FAR

    def finding(self) -> Finding:
        """Return the finding of the probe."""
        means = {
            name: average(list(classes.values()))
            for name, classes in self.measures.items()
            if classes
        }
        rows = self._classes()
        numbers: dict[str, Any] = {}
        for name, mean in means.items():
            numbers |= columns(name, mean)
        return Finding(
            probe="divergence",
            question=QUESTION,
            verdict=verdict(means, self.far),
            rule=rule(self.far),
            headline=headline(means, self.far),
            numbers={
                **numbers,
                "training_images": sum(row["n_train"] for row in rows),
                "test_images": sum(row["n_test"] for row in rows),
                "classes": len(self.measures["kl"]),
                "draws": DRAWS,
                "perplexity": self.perplexity,
                "layer": self.where,
            },
            tables={"classes": rows, "choices": self._choices(), "points": self._points()},
            figures=self._figures(),
            notes=self._notes(rows),
        )

    def _figures(self) -> tuple[Figure, ...]:
        points = Scatter(
            "points",
            f"t-SNE of the features ({self.where}) of training and test images together (at most "
            f"{SHOWN} of each are shown).",
            table="points",
            x="x",
            y="y",
            x_label="t-SNE 1",
            y_label="t-SNE 2",
            group="set",
        )
        bars = Bars(
            "classes",
            "K-L divergence in the plane from a random part of the training set, by class: to test "
            "images, and to as many training images outside that part. Lines span the "
            f"{DRAWS} draws.",
            table="classes",
            label="class",
            series={"to test images": "kl_matched", "to other training images": "kl_null"},
            y_label="K-L divergence (nats)",
            rates=False,
        )
        return (points, bars) if len(self.classes) <= MOST_BARS else (points,)

    def _classes(self) -> list[Row]:
        (_, train), (_, test) = placed(self.plane)
        rows = []
        for label, name in enumerate(self.classes):
            row: Row = {
                "class": name,
                "n_train": int((train == label).sum()),
                "n_test": int((test == label).sum()),
            }
            for measure in ("kl", "knn_kl"):
                row |= columns(measure, self.measures[measure].get(label, NOTHING))
            rows.append(row)
        return rows

    def _choices(self) -> list[Row]:
        (train, train_labels), (test, test_labels) = placed(self.plane)
        pairs = [
            (train[train_labels == label], test[test_labels == label])
            for label in self.measures["kl"]
        ]
        return [
            {
                "choice": name,
                "kl": finite(np.mean([kde_divergence(*pair, **choice) for pair in pairs])),
            }
            for name, choice in CHOICES.items()
        ]

    def _points(self) -> list[Row]:
        """Return points of each set, each class in proportion to its size."""
        rows = []
        for (name,), points in self.plane.group_by("set", maintain_order=True):
            sample = np.linspace(0, len(points) - 1, min(SHOWN, len(points))).astype(int)
            shown = points.sort("label", maintain_order=True)[sample]
            for label, *place in shown.select("label", "x", "y").iter_rows():
                x, y = (finite(each, 4) for each in place)
                rows.append({"set": name, "class": self.classes[label], "x": x, "y": y})
        return rows

    def _notes(self, rows: list[Row]) -> tuple[str, ...]:
        without = {
            measure: [row["class"] for row in rows if row[measure] is None]
            for measure in ("kl", "knn_kl")
        }
        duplicated = [name for name in without["knn_kl"] if name not in without["kl"]]
        reasons = {
            "Too few images or too little spread to measure": without["kl"],
            "No knn_kl, since too few images differ": duplicated,
        }
        return (
            "The paper leaves choices open. Here: two dimensions; one t-SNE of all classes and "
            f"both sets (openTSNE, perplexity {self.perplexity:g}, exact neighbours, initialised "
            "by principal components, features not reduced before); kernels with the full "
            f"covariance of their sample; a box {MARGIN:g} kernel widths wider than the points on "
            f"each side, in which both densities sum to one; {SPACING:g} kernel widths between "
            "nodes; a uniform part of the test density with the weight of one more test image. The "
            "table `choices` has others: where only training images lie, the uniform part decides.",
            "Intervals are from random halves of the images, with the embedding fixed; another "
            "seed gives another embedding. A bootstrap would make duplicates, which are their own "
            "nearest neighbours.",
            "Each estimate depends on the number of images. Compare the null with the matched "
            "value: both start from one part of the training set, and measure to as many training "
            "as test images.",
            "knn_kl is the estimator of Wang, Kulkarni and Verdu (2009) by class, with "
            f"{NEIGHBOURS} neighbours in the features. Its factor is the intrinsic dimension of "
            "the features (Levina and Bickel 2004), not their number. An exact duplicate does not "
            "count as a neighbour.",
            "AUC is the area under the ROC curve of a cross-validated logistic regression on "
            f"{COMPONENTS} principal components of the standardised features. It uses at most "
            f"{SIDE} images of each set and all classes together, so it also notices different "
            "class frequencies.",
            *(f"{reason}: {', '.join(names)}." for reason, names in reasons.items() if names),
        )


NOTHING = Comparison(np.nan, np.nan, np.array([np.nan]), np.array([np.nan]))
BOUNDS = {"kl": (0.0, np.inf), "knn_kl": (-np.inf, np.inf), "auc": (0.0, 1.0)}


def columns(name: str, comparison: Comparison) -> dict[str, Any]:
    """Return columns of a measure: its interval, and the ranges of its matched and null draws."""
    low, high = np.clip([comparison.low, comparison.high], *BOUNDS[name])
    triples = {name: (comparison.value, low, high)}
    for kind in ("null",) if name == "auc" else ("matched", "null"):
        draws = getattr(comparison, kind)
        triples[f"{name}_{kind}"] = (draws.mean(), draws.min(), draws.max())
    return {
        f"{key}{end}": finite(value)
        for key, triple in triples.items()
        for end, value in zip(("", "_low", "_high"), triple, strict=True)
    }


def verdict(means: dict[str, Comparison], far: float = FAR) -> Verdict:
    """Return the verdict of `rule`."""
    beyond = {name: mean for name, mean in means.items() if mean.beyond_null}
    large = [
        mean.low > far if name == "auc" else mean.excess > far_kl(far)
        for name, mean in beyond.items()
    ]
    return "broken" if any(large) else "weak" if beyond else "holds"


def headline(means: dict[str, Comparison], far: float) -> str:
    """Return the result and the advice that follows from it."""
    kl, auc = means["kl"], means["auc"]
    result, advice = {
        "holds": (
            "as near to the training data as other training images",
            "results on them are valid for data like it",
        ),
        "weak": (
            "a little farther from the training data than other training images",
            "expect somewhat less robustness there",
        ),
        "broken": (
            "far from the training data",
            "robustness need not extend to them; train on similar images",
        ),
    }[verdict(means, far)]
    return (
        f"Test images lie {result}: {advice}. The K-L divergence is {kl.matched.mean():.3f}, "
        f"within the training set {kl.null.mean():.3f}; a classifier separates test from training "
        f"images with AUC {auc.value:.2f} (0.5 is a guess)."
    )


def placed(plane: pl.DataFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return points (n, 2) and labels (n,) of the training set, then of the test set."""
    sets = [plane.filter(pl.col("set") == name) for name in ("training", "test")]
    return [(each.select("x", "y").to_numpy(), each["label"].to_numpy()) for each in sets]
