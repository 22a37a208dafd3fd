"""Success of an attack against distance to the training data, in the features of one model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from scotoma.metrics.risk import Logistic, Risk, auroc, risk
from scotoma.probes.base import columns
from scotoma.results.finding import Bars, Curve, Figure, RateOverHistogram, Row, Scatter
from scotoma.utils.stats import Correlation, Estimate, Rate, difference, finite, rate, spearman
from scotoma.utils.text import norm_name

FIFTHS = 5
"""Number of groups of equal size, by distance."""
BINS = 12
STRATA = 10
"""Number of strata of equal size, by margin."""
SHIFT_BINS = 30
TAIL = 0.99
"""Quantile of the distance beyond which images join the last bin."""
POINTS = 600
"""Largest number of points in a figure."""
UNKNOWN = Estimate(np.nan, np.nan, np.nan, 0)


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
    transformed: np.ndarray
    density: np.ndarray
    margin: np.ndarray
    smallest: np.ndarray
    norm: str
    broken: np.ndarray
    seed: int
    recall: Rate | None = None

    @cached_property
    def overall(self) -> Correlation:
        """Rank correlation of distance and smallest perturbation."""
        return spearman(self.distance, self.smallest, self.seed)

    @cached_property
    def within(self) -> Correlation:
        """The rank correlation within strata of equal margin."""
        return spearman(self.distance, self.smallest, self.seed, _groups(self.margin, STRATA))

    @cached_property
    def fifths(self) -> np.ndarray:
        """Fifth of each image by distance; 0 is the nearest."""
        return _groups(self.distance, FIFTHS)

    @property
    def near(self) -> Rate:
        """Attack success rate in the nearest fifth."""
        return rate(self.broken[self.fifths == 0])

    @property
    def far(self) -> Rate:
        """Attack success rate in the farthest fifth."""
        return rate(self.broken[self.fifths == FIFTHS - 1])

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
        gain, slopes = UNKNOWN, [UNKNOWN, UNKNOWN]
        if self.risk:
            inputs = np.column_stack([self.distance, self.margin])
            scores, gain = self.risk.scores, self.risk.gain
            slopes = Logistic.fit(inputs, self.broken).slopes()
        named: dict[str, Rate | Correlation | Estimate] = {
            "spearman": self.overall,
            "spearman_within_margin": self.within,
            "nearest_fifth_success": self.near,
            "farthest_fifth_success": self.far,
            "farthest_minus_nearest": difference(self.far, self.near),
            "slope_distance": slopes[0],
            "slope_margin": slopes[1],
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
            "bins": self._bins(),
            "fifths": self._fifths(),
            "points": self._points(),
            "transformed": self._histograms(),
        }
        if self.risk:
            tables["risk"] = [
                {"score": name, **columns("auroc", score), "n": score.n}
                for name, score in self.risk.scores.items()
            ]
        return {f"{self.key}{name}": rows for name, rows in tables.items()}

    def figures(self) -> list[Figure]:
        """Figures of the finding; those of two feature spaces are shown side by side."""
        names = ("bins", "points", "transformed", "risk")
        bins, points, transformed, risks = (f"{self.key}{name}" for name in names)
        axis, detection = "distance to the training data", self.detection
        figures: list[Figure] = [
            RateOverHistogram(
                bins,
                "Above: attack success rate at eps on the images of each bin, with 95% intervals. "
                "Below: share of images in each bin. Distance is the mean Euclidean distance to "
                f"the {self.neighbours} nearest training images in {self.where}.",
                bins,
                x_label=axis,
                y_label="attack success rate",
            ),
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

    def _bins(self) -> list[Row]:
        """Return bins of equal width."""
        edges = np.linspace(self.distance.min(), np.quantile(self.distance, TAIL), BINS + 1)
        place = np.clip(np.searchsorted(edges, self.distance, side="right") - 1, 0, BINS - 1)
        edges[-1] = self.distance.max()
        return [
            {
                "left": finite(left),
                "right": finite(right),
                "share": finite(np.mean(place == i)),
                **self._success(place == i),
            }
            for i, (left, right) in enumerate(pairwise(edges))
        ]

    def _fifths(self) -> list[Row]:
        members = (self.fifths == i for i in range(FIFTHS))
        return [
            {
                "fifth": i,
                "mean_distance": finite(self.distance[chosen].mean()),
                **self._success(chosen),
            }
            for i, chosen in enumerate(members, start=1)
        ]

    def _success(self, chosen: np.ndarray) -> Row:
        success = rate(self.broken[chosen])
        return {"n": success.n, **columns("rate", success)}

    def _points(self) -> list[Row]:
        shown = np.linspace(0, len(self.distance) - 1, min(POINTS, len(self.distance))).astype(int)
        return [
            {"distance": finite(self.distance[i], 4), self.norm: finite(self.smallest[i], 4)}
            for i in shown
        ]

    def _histograms(self) -> list[Row]:
        """Return the histograms before and after the transform; a bin is named by its middle."""
        both = np.concatenate([self.distance, self.transformed])
        edges = np.linspace(both.min(), np.quantile(both, TAIL), SHIFT_BINS + 1)
        rows = []
        for images, distances in {"original": self.distance, self.change: self.transformed}.items():
            share = np.histogram(np.minimum(distances, edges[-1]), edges)[0] / len(distances)
            middles = zip((edges[1:] + edges[:-1]) / 2, share, strict=True)
            rows += [
                {"images": images, "distance": finite(middle), "share": finite(value)}
                for middle, value in middles
            ]
        return rows


def _groups(values: np.ndarray, n: int) -> np.ndarray:
    """Return the group of each value among n groups of equal size, in ascending order."""
    return values.argsort(kind="stable").argsort() * n // len(values)
