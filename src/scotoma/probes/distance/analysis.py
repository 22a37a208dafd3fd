"""Success of an attack against distance to the training data, in the features of one model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from scotoma.metrics.risk import Risk, auroc, risk
from scotoma.probes.base import columns
from scotoma.probes.distance.trend import TAIL, UNKNOWN, Trend
from scotoma.results.finding import Bars, Curve, Figure, RateOverHistogram, Row, Scatter
from scotoma.utils.stats import Estimate, Rate, finite, spearman
from scotoma.utils.text import norm_name

SHIFT_BINS = 30
POINTS = 600
"""Largest number of points in a figure."""
RAW, UNIT = "", "unit_"
"""Prefixes of what is measured with the features as they are, and with features of unit length."""
LENGTHS = {RAW: "", UNIT: " of unit length"}


@dataclass(frozen=True)
class DistanceAnalysis:
    """The attacked images and their distances in one feature space; arrays are (n,).

    Args:
        key: prefix of the names of numbers, tables and figures; "" for the audited model's
            features.
        where: name of the feature space, for captions.
        neighbours: number of nearest training images over which the distance is a mean.
        change: name of the harmless transform.
        distance: distance to the training data.
        unit: distance to the training data in features of unit length.
        length: length of the features.
        transformed: distance after the transform `change`.
        density: log density under the training images of the predicted class.
        margin: margin of the audited model before the attack.
        smallest: size of the smallest adversarial perturbation; infinite if there is none.
        norm: norm of `smallest`.
        broken: whether `smallest` is inside the threat.
        seed: seed of bootstraps and folds.
        recall: recall of the search for the nearest training images; None if it is exact.
    """

    key: str
    where: str
    neighbours: int
    change: str
    distance: np.ndarray
    unit: np.ndarray
    length: np.ndarray
    transformed: np.ndarray
    density: np.ndarray
    margin: np.ndarray
    smallest: np.ndarray
    norm: str
    broken: np.ndarray
    seed: int
    recall: Rate | None = None

    @cached_property
    def trends(self) -> dict[str, Trend]:
        """Trends by prefix, see `RAW` and `UNIT`."""
        shared = (self.margin, self.smallest, self.broken, self.seed)
        return {RAW: Trend(self.distance, *shared), UNIT: Trend(self.unit, *shared)}

    @cached_property
    def risk(self) -> Risk | None:
        """How well success is predicted; None if there are too few successes or failures."""
        return risk(self.distance, self.margin, self.density, self.broken, self.seed)

    @cached_property
    def detection(self) -> Estimate:
        """AUROC of the distance as a detector of transformed images (Figure 5 of the paper)."""
        return auroc(self.transformed, self.distance, self.seed, paired=True)

    def numbers(self) -> dict[str, Any]:
        """Numbers of the finding."""
        scores = dict.fromkeys(("risk", "margin", "distance", "density"), UNKNOWN)
        gain = UNKNOWN
        if self.risk:
            scores, gain = self.risk.scores, self.risk.gain
        named: dict[str, Rate | Estimate] = {
            f"{prefix}{name}": value
            for prefix, trend in self.trends.items()
            for name, value in trend.numbers().items()
        }
        named |= {
            "length_spearman_distance": spearman(self.length, self.distance, self.seed),
            "length_spearman_margin": spearman(self.length, self.margin, self.seed),
            "spearman_given_length": self.trends[RAW].given(self.length),
            **{f"auroc_{name}": score for name, score in scores.items()},
            "auroc_risk_over_margin": gain,
            "auroc_transformed": self.detection,
            **({"recall": self.recall} if self.recall else {}),
        }
        numbers: dict[str, Any] = {}
        for name, value in named.items():
            numbers |= columns(f"{self.key}{name}", value)
        return numbers

    def notes(self) -> tuple[str, ...]:
        """Notes on the search for neighbours."""
        if not self.recall:
            return ()
        recall = self.recall
        return (
            f"The search for neighbours in {self.where} is approximate: recall of the "
            f"{self.neighbours} nearest {recall.value:.3f} ({recall.low:.3f}–{recall.high:.3f}) "
            f"over {recall.n} queries. A missed neighbour makes a distance larger, never smaller.",
        )

    def tables(self) -> dict[str, list[Row]]:
        """Tables of the finding."""
        tables = {
            **{f"{prefix}bins": trend.bins() for prefix, trend in self.trends.items()},
            **{f"{prefix}fifths": trend.fifths() for prefix, trend in self.trends.items()},
            "points": self._points(),
            "transformed": histograms({"original": self.distance, self.change: self.transformed}),
        }
        if self.risk:
            tables["risk"] = [
                {"score": name, **columns("auroc", score), "n": score.n}
                for name, score in self.risk.scores.items()
            ]
        return {f"{self.key}{name}": rows for name, rows in tables.items()}

    def figures(self) -> list[Figure]:
        """Figures of the finding; those of two feature spaces are shown side by side."""
        names = ("points", "transformed", "risk")
        points, transformed, risks = (f"{self.key}{name}" for name in names)
        axis, detection = "distance to the training data", self.detection
        figures: list[Figure] = [
            *(self._over_distance(prefix, axis) for prefix in self.trends),
            Scatter(
                points,
                "Smallest adversarial perturbation of each image against its distance in "
                f"{self.where} (at most {POINTS} images are shown).",
                points,
                x="distance",
                y=self.norm,
                x_label=axis,
                y_label=f"smallest {norm_name(self.norm)} perturbation",
            ),
            Curve(
                transformed,
                f"Distances of the images before and after a harmless transform ({self.change}), "
                f"in {self.where}. As a detector of the transform, the distance has an AUROC of "
                f"{detection.value:.2f} ({detection.low:.2f}–{detection.high:.2f}): 0.5 is a "
                "guess, and a lower value means that transformed images lie nearer.",
                transformed,
                x="distance",
                y="share",
                group="images",
                x_label=axis,
                y_label="share of images",
            ),
        ]
        if self.risk:
            caption = (
                "How well attack success at eps is predicted: the probability that a broken image "
                "has a higher score than one that withstands the attack (area under the ROC "
                "curve, AUROC; 0.5 is a guess), with 95% intervals. Risk combines the other three "
                "and is measured on images to which it was not fitted. Distance and density are in "
                f"{self.where}."
            )
            series = {"AUROC": "auroc"}
            figures.append(Bars(risks, caption, risks, "score", series, y_label="AUROC"))
        return figures

    def _over_distance(self, prefix: str, axis: str) -> Figure:
        bins = f"{self.key}{prefix}bins"
        return RateOverHistogram(
            bins,
            "Above: attack success rate at eps on the images of each bin, with 95% intervals. "
            "Below: share of images in each bin. Distance is the mean Euclidean distance to "
            f"the {self.neighbours} nearest training images in features{LENGTHS[prefix]} "
            f"({self.where}).",
            bins,
            x_label=axis,
            y_label="attack success rate",
        )

    def _points(self) -> list[Row]:
        shown = np.linspace(0, len(self.distance) - 1, min(POINTS, len(self.distance))).astype(int)
        return [
            {"distance": finite(self.distance[i], 4), self.norm: finite(self.smallest[i], 4)}
            for i in shown
        ]


def histograms(distances: dict[str, np.ndarray], tail: float = TAIL) -> list[Row]:
    """Return shares of images over common bins, each named by its middle.

    Args:
        distances: distances (n,) by what the images are.
        tail: quantile of all distances beyond which images join the last bin.
    """
    every = np.concatenate(list(distances.values()))
    edges = np.linspace(every.min(), np.quantile(every, tail), SHIFT_BINS + 1)
    rows = []
    for images, values in distances.items():
        share = np.histogram(np.minimum(values, edges[-1]), edges)[0] / len(values)
        middles = zip((edges[1:] + edges[:-1]) / 2, share, strict=True)
        rows += [
            {"images": images, "distance": finite(middle), "share": finite(value)}
            for middle, value in middles
        ]
    return rows
