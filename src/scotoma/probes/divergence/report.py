"""What the divergence probe measured, as a finding: verdict, numbers, tables, figures and notes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from scotoma.metrics.class_divergence import FEWEST
from scotoma.metrics.density import MARGIN, SPACING, kde_divergence
from scotoma.metrics.resampling import DRAWS, Comparison, average
from scotoma.metrics.two_sample import COMPONENTS, NEIGHBOURS, SIDE
from scotoma.results.finding import Bars, Figure, Finding, Row, Scatter, Verdict
from scotoma.utils.stats import finite

QUESTION = "Is the test set drawn from where the training set is?"
FAR_AUC = 0.7
FAR_KL = 0.275
"""Of two Gaussians of equal covariance that a classifier tells apart with AUC 0.7: the square of the normal quantile of 0.7."""
RULE = (
    f"a measure is beyond chance if it is larger than between parts of the training set in each of {DRAWS} random draws (by "
    f"chance once in {DRAWS + 1}); holds if none of the three is, broken if one is and is large (the 95% interval of AUC above "
    f"{FAR_AUC:g}, or a K-L divergence {FAR_KL:g} nats larger than within the training set, which is that of two Gaussians with "
    f"that AUC), else weak; not applicable without a training split or a class with {FEWEST} images in both"
)
ALL = -1
"""Stands for the label where a measure is of all classes together."""
SHOWN = 1000
"""Points of each set in the figure."""
MOST_BARS = 30
"""Classes up to which there is a figure of them; there always is the table."""
CHOICES: dict[str, dict[str, float]] = {
    "as reported": {},
    "nodes twice as far apart": {"spacing": 2 * SPACING},
    "box without a margin": {"margin": 0.0},
    "uniform part of 1e-6": {"floor": 1e-6},
    "uniform part of 1e-12": {"floor": 1e-12},
    "uniform part of 1e-100": {"floor": 1e-100},
}
"""Other readings of what the paper leaves open about the integral."""

Found = dict[str, dict[int, Comparison]]
"""By measure (kl, knn_kl, auc) and label."""


@dataclass(frozen=True)
class Measured:
    """All that was measured.

    Args:
        classes: their names, by label.
        plane: the embedding: set (training or test), label, x, y.
        found: the measures; at least one class has kl.
        where: the layer whose features these are, in words.
        perplexity: of t-SNE.
    """

    classes: tuple[str, ...]
    plane: pl.DataFrame
    found: Found
    where: str
    perplexity: float

    def finding(self) -> Finding:
        """The finding of the probe."""
        means = {
            name: average(list(classes.values())) for name, classes in self.found.items() if classes
        }
        rows = self._classes()
        return Finding(
            probe="divergence",
            question=QUESTION,
            verdict=verdict(means),
            rule=RULE,
            headline=headline(means),
            numbers={
                **{
                    key: value
                    for name, mean in means.items()
                    for key, value in columns(name, mean).items()
                },
                "training_images": sum(row["n_train"] for row in rows),
                "test_images": sum(row["n_test"] for row in rows),
                "classes": len(self.found["kl"]),
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
            f"t-SNE of the features ({self.where}) of training and test images together; up to {SHOWN} of each are shown.",
            table="points",
            x="x",
            y="y",
            x_label="t-SNE 1",
            y_label="t-SNE 2",
            group="set",
        )
        bars = Bars(
            "classes",
            "K-L divergence in the plane from a random part of the training set, class by class: to test images, and to as many "
            f"training images outside that part. Lines span all {DRAWS} draws.",
            table="classes",
            label="class",
            series={
                "to test images": "kl_matched",
                "to other training images": "kl_null",
            },
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
                row |= columns(measure, self.found[measure].get(label, NOTHING))
            rows.append(row)
        return rows

    def _choices(self) -> list[Row]:
        (train, train_labels), (test, test_labels) = placed(self.plane)
        pairs = [
            (train[train_labels == label], test[test_labels == label]) for label in self.found["kl"]
        ]
        return [
            {
                "choice": name,
                "kl": finite(np.mean([kde_divergence(*pair, **choice) for pair in pairs])),
            }
            for name, choice in CHOICES.items()
        ]

    def _points(self) -> list[Row]:
        """Some points of each set, of each class in its share."""
        rows = []
        for (name,), points in self.plane.group_by("set", maintain_order=True):
            places = np.linspace(0, len(points) - 1, min(SHOWN, len(points))).astype(int)
            shown = points.sort("label", maintain_order=True)[places]
            for label, x, y in shown.select("label", "x", "y").iter_rows():
                rows.append(
                    {
                        "set": name,
                        "class": self.classes[label],
                        "x": finite(x, 4),
                        "y": finite(y, 4),
                    }
                )
        return rows

    def _notes(self, rows: list[Row]) -> tuple[str, ...]:
        without = {
            measure: [row["class"] for row in rows if row[measure] is None]
            for measure in ("kl", "knn_kl")
        }
        duplicated = [name for name in without["knn_kl"] if name not in without["kl"]]
        return (
            "Choices that the paper leaves open: two dimensions; one t-SNE of all classes and both sets together (openTSNE, "
            f"perplexity {self.perplexity:g}, exact neighbours, PCA start, features not reduced before); kernels with the full "
            f"covariance of their sample; a box {MARGIN:g} kernel widths wider than the points on each side, in which both "
            f"densities sum to one; {SPACING:g} kernel widths between nodes; a uniform part of the test density that weighs as "
            "much as one more test image. The table of choices has others: where training images lie alone, the uniform part "
            "decides.",
            "Intervals are those of random halves of the images, the embedding staying as it is; another seed gives another one. A "
            "bootstrap would make duplicates, which are their own nearest neighbours.",
            "Each of these estimates depends on how many images it is given. So the null is to be compared with the matched value: "
            "both go out from the same part of the training set, to as many training as test images.",
            f"knn_kl is the estimator of Wang, Kulkarni and Verdu (2009) with {NEIGHBOURS} neighbours in the features themselves, "
            "class by class. Its factor is the dimension of the surface that the features lie on (Levina and Bickel 2004), not how "
            "many there are. An exact duplicate does not count as a neighbour.",
            f"AUC is that of a cross-validated logistic regression on {COMPONENTS} principal components of the standardised "
            f"features, with at most {SIDE} images of each set and all classes together, so that it also sees classes that are "
            "more frequent in one.",
            *(
                [f"Left out for want of images or of spread: {', '.join(without['kl'])}."]
                if without["kl"]
                else []
            ),
            *(
                [f"Without knn_kl, for want of images that differ: {', '.join(duplicated)}."]
                if duplicated
                else []
            ),
        )


NOTHING = Comparison(np.nan, np.nan, np.array([np.nan]), np.array([np.nan]))
BOUNDS = {"kl": (0.0, np.inf), "knn_kl": (-np.inf, np.inf), "auc": (0.0, 1.0)}


def columns(name: str, measured: Comparison) -> dict[str, Any]:
    """A measure as `name` with its interval, `name_matched` and `name_null` with the range of their draws."""
    ends = np.clip([measured.low, measured.high], *BOUNDS[name])
    found = {
        name: finite(measured.value),
        f"{name}_low": finite(ends[0]),
        f"{name}_high": finite(ends[1]),
    }
    for kind in ("null",) if name == "auc" else ("matched", "null"):
        draws, key = getattr(measured, kind), f"{name}_{kind}"
        found |= {
            key: finite(draws.mean()),
            f"{key}_low": finite(draws.min()),
            f"{key}_high": finite(draws.max()),
        }
    return found


def verdict(means: dict[str, Comparison]) -> Verdict:
    """The verdict of `RULE`."""
    beyond = {name: mean for name, mean in means.items() if mean.beyond_null}
    far = [
        mean.low > FAR_AUC if name == "auc" else mean.excess > FAR_KL
        for name, mean in beyond.items()
    ]
    return "broken" if any(far) else "weak" if beyond else "holds"


def headline(means: dict[str, Comparison]) -> str:
    """What was found and what to do, for a reader of nothing else."""
    kl, auc = means["kl"], means["auc"]
    said, advice = {
        "holds": (
            "as near to the training data as other training images do",
            "results on them stand for data like it",
        ),
        "weak": (
            "a little farther from the training data than other training images do",
            "expect somewhat less robustness there",
        ),
        "broken": (
            "far from the training data",
            "robustness learnt there need not reach them; train on images like them",
        ),
    }[verdict(means)]
    return (
        f"Test images lie {said} (K-L divergence {kl.matched.mean():.3f}, within the training set {kl.null.mean():.3f}; a "
        f"classifier tells them from training images with AUC {auc.value:.2f}, where 0.5 is a guess): {advice}."
    )


def placed(plane: pl.DataFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    """Points (n, 2) and labels (n,) of the training set, then of the test set."""
    sets = [plane.filter(pl.col("set") == name) for name in ("training", "test")]
    return [(each.select("x", "y").to_numpy(), each["label"].to_numpy()) for each in sets]
