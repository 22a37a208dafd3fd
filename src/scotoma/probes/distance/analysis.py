"""Success of an attack against distance to the training data, in the features of one model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from scotoma.execution import records as rec
from scotoma.metrics.risk import Risk, auroc, risk
from scotoma.probes.base import columns
from scotoma.probes.distance.space import FeatureSpace
from scotoma.probes.distance.trend import TAIL, Trend
from scotoma.results.finding import Bars, Curve, Figure, RateOverHistogram, Row, Scatter
from scotoma.results.ledger import Ledger
from scotoma.threat import Threat
from scotoma.utils.stats import UNDEFINED, Estimate, Rate, finite, spearman
from scotoma.utils.text import norm_name

SHIFT_BINS = 30
POINTS = 600
"""Largest number of points in a figure."""
RAW, UNIT = "", "unit_"
"""Prefixes of what is measured with the features as they are, and with features of unit length."""
AXIS = "distance to the training data"
LENGTHS = {RAW: "", UNIT: " of unit length"}


@dataclass(frozen=True)
class DistanceAnalysis:
    """The attacked images and their distances in one feature space.

    Args:
        space: the feature space.
        table: a row for each image that is classified correctly, with the columns of the ledger and
            of `FeatureSpace.measured`.
        threat: norm and eps of the claim.
        seed: seed of bootstraps and folds.
    """

    space: FeatureSpace
    table: pl.DataFrame
    threat: Threat
    seed: int

    @classmethod
    def of(cls, space: FeatureSpace, threat: Threat, ledger: Ledger, seed: int) -> DistanceAnalysis:
        """Compare the distances with the smallest perturbations of the ledger."""
        attacked = rec.correct(ledger.rows())
        table = attacked.join(space.measurements, on="index", maintain_order="left")
        return cls(space, table, threat, seed)

    def __getitem__(self, column: str) -> np.ndarray:
        """Return a column of `table`, (n,)."""
        return self.table[column].to_numpy()

    @property
    def smallest(self) -> np.ndarray:
        """Size of the smallest adversarial perturbation, (n,); infinite if there is none."""
        return self[self.threat.norm]

    @property
    def fooled(self) -> np.ndarray:
        """Whether `smallest` is inside the threat, bool (n,)."""
        return rec.fallen(self.table, self.threat.eps, self.threat.norm)

    @property
    def recall(self) -> Rate | None:
        """Recall of the search for the nearest training images; None if it is exact."""
        recall = self.table["recall"][0]
        return Rate(**recall) if recall else None

    @cached_property
    def trends(self) -> dict[str, Trend]:
        """Trends by prefix, see `RAW` and `UNIT`."""
        shared = (self["margin"], self.smallest, self.fooled, self.seed)
        return {RAW: Trend(self["distance"], *shared), UNIT: Trend(self["unit"], *shared)}

    @cached_property
    def risk(self) -> Risk | None:
        """How well success is predicted; None if there are too few successes or failures."""
        distance, margin, density = (self[name] for name in ("distance", "margin", "density"))
        return risk(distance, margin, density, self.fooled, self.seed)

    @cached_property
    def detection(self) -> Estimate:
        """AUROC of the distance as a detector of transformed images (Figure 5 of the paper)."""
        return auroc(self["moved"], self["distance"], self.seed, paired=True)

    def numbers(self) -> dict[str, Any]:
        """Numbers of the finding."""
        scores = dict.fromkeys(("risk", "margin", "distance", "density"), UNDEFINED)
        gain = UNDEFINED
        if self.risk:
            scores, gain = self.risk.scores, self.risk.gain
        estimates: dict[str, Rate | Estimate] = {
            f"{prefix}{name}": value
            for prefix, trend in self.trends.items()
            for name, value in trend.numbers().items()
        }
        estimates |= {
            "length_spearman_distance": spearman(self["length"], self["distance"], self.seed),
            "length_spearman_margin": spearman(self["length"], self["margin"], self.seed),
            "spearman_given_length": self.trends[RAW].given(self["length"]),
            **{f"auroc_{name}": score for name, score in scores.items()},
            "auroc_risk_over_margin": gain,
            "auroc_transformed": self.detection,
            **({"recall": self.recall} if self.recall else {}),
        }
        numbers: dict[str, Any] = {}
        for name, value in estimates.items():
            numbers |= columns(f"{self.space.key}{name}", value)
        return numbers

    def notes(self) -> tuple[str, ...]:
        """Notes on the search for neighbours."""
        recall, space = self.recall, self.space
        if not recall:
            return ()
        return (
            f"The search for neighbours in {space.where} is approximate: recall of the "
            f"{space.neighbours} nearest {recall.value:.3f} ({recall.low:.3f}–{recall.high:.3f}) "
            f"over {recall.n} queries. A missed neighbour makes a distance larger, never smaller.",
        )

    def tables(self) -> dict[str, list[Row]]:
        """Tables of the finding."""
        sets = {"original": self["distance"], str(self.space.change): self["moved"]}
        tables = {
            **{f"{prefix}bins": trend.bins() for prefix, trend in self.trends.items()},
            **{f"{prefix}fifths": trend.fifths() for prefix, trend in self.trends.items()},
            "points": self._points(),
            "transformed": histograms(sets),
        }
        if self.risk:
            tables["risk"] = [
                {"score": name, **columns("auroc", score), "n": score.n}
                for name, score in self.risk.scores.items()
            ]
        return {f"{self.space.key}{name}": rows for name, rows in tables.items()}

    def figures(self) -> list[Figure]:
        """Figures of the finding; those of two feature spaces are shown side by side."""
        names = ("points", "transformed", "risk")
        points, transformed, risks = (f"{self.space.key}{name}" for name in names)
        where, norm, area = self.space.where, self.threat.norm, self.detection
        figures: list[Figure] = [
            *(self._over_distance(prefix) for prefix in self.trends),
            Scatter(
                points,
                "Smallest adversarial perturbation of each image against its distance in "
                f"{where} (at most {POINTS} images are shown).",
                points,
                x="distance",
                y=norm,
                x_label=AXIS,
                y_label=f"smallest {norm_name(norm)} perturbation",
            ),
            Curve(
                transformed,
                "Distances of the images before and after a harmless transform "
                f"({self.space.change}), in {where}. As a detector of the transform, the distance "
                f"has an AUROC of {area.value:.2f} ({area.low:.2f}–{area.high:.2f}): 0.5 is a "
                "guess, and a lower value means that transformed images lie nearer.",
                transformed,
                x="distance",
                y="share",
                group="images",
                x_label=AXIS,
                y_label="share of images",
            ),
        ]
        if self.risk:
            caption = (
                "How well attack success at eps is predicted: the probability that a broken image "
                "has a higher score than one that withstands the attack (area under the ROC "
                "curve, AUROC; 0.5 is a guess), with 95% intervals. Risk combines the other three "
                "and is measured on images to which it was not fitted. Distance and density are in "
                f"{where}."
            )
            series = {"AUROC": "auroc"}
            figures.append(Bars(risks, caption, risks, "score", series, y_label="AUROC"))
        return figures

    def _over_distance(self, prefix: str) -> Figure:
        bins = f"{self.space.key}{prefix}bins"
        return RateOverHistogram(
            bins,
            "Above: attack success rate at eps on the images of each bin, with 95% intervals. "
            "Below: share of images in each bin. Distance is the mean Euclidean distance to "
            f"the {self.space.neighbours} nearest training images in features{LENGTHS[prefix]} "
            f"({self.space.where}).",
            bins,
            x_label=AXIS,
            y_label="attack success rate",
        )

    def _points(self) -> list[Row]:
        n = len(self.table)
        rows = np.linspace(0, n - 1, min(POINTS, n)).astype(int)
        pairs = zip(self["distance"][rows], self.smallest[rows], strict=True)
        return [
            {"distance": finite(distance, 4), self.threat.norm: finite(size, 4)}
            for distance, size in pairs
        ]


def histograms(distances: dict[str, np.ndarray], tail: float = TAIL) -> list[Row]:
    """Return shares of images over common bins, each named by its middle.

    Args:
        distances: distances (n,) by what the images are.
        tail: quantile of all distances beyond which images join the last bin.
    """
    pooled = np.concatenate(list(distances.values()))
    edges = np.linspace(pooled.min(), np.quantile(pooled, tail), SHIFT_BINS + 1)
    rows = []
    for images, values in distances.items():
        share = np.histogram(np.minimum(values, edges[-1]), edges)[0] / len(values)
        middles = zip((edges[1:] + edges[:-1]) / 2, share, strict=True)
        rows += [
            {"images": images, "distance": finite(middle), "share": finite(value)}
            for middle, value in middles
        ]
    return rows
