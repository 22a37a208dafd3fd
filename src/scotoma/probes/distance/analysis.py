"""Success of an attack against distance to the training data, in the eyes of one extractor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from scotoma.metrics.risk import Logistic, Risk, auroc, risk
from scotoma.probes.base import columns
from scotoma.results.finding import Bars, Curve, Figure, RateOverHistogram, Row, Scatter
from scotoma.utils.stats import Correlation, Estimate, Rate, finite, rate, spearman
from scotoma.utils.text import norm_name

FIFTHS = 5
BINS = 12
STRATA = 10
SHIFT_BINS = 30
TAIL = 0.99
"""Images beyond this quantile of the distance join the last bin."""
POINTS = 600
UNKNOWN = Estimate(np.nan, np.nan, np.nan, 0)


@dataclass(frozen=True)
class Proximity:
    """The attacked images, all (n,), where an extractor places them.

    Args:
        key: before the names of numbers, tables and figures: "" for the audited model's own features.
        where: whose features they are, for captions.
        neighbours: over how many the distance is the mean.
        distance: to the training data.
        moved: the same after the harmless change `change`.
        density: logarithmic, under the training images of the predicted class.
        margin: of the audited model before the attack.
        smallest: perturbation found; infinite where there is none.
        norm: in which that is measured.
        fell: whether that is inside the threat.
        seed: of bootstraps and folds.
        recall: of the search for the nearest training images; None where it is exact.
    """

    key: str
    where: str
    neighbours: int
    change: str
    distance: np.ndarray
    moved: np.ndarray
    density: np.ndarray
    margin: np.ndarray
    smallest: np.ndarray
    norm: str
    fell: np.ndarray
    seed: int
    recall: Rate | None = None

    @cached_property
    def overall(self) -> Correlation:
        """Of distance and smallest perturbation."""
        return spearman(self.distance, self.smallest, self.seed)

    @cached_property
    def within(self) -> Correlation:
        """The same within strata of equal margin."""
        strata = self.margin.argsort(kind="stable").argsort() * STRATA // len(self.margin)
        return spearman(self.distance, self.smallest, self.seed, strata)

    @cached_property
    def fifths(self) -> np.ndarray:
        """Which fifth by distance an image belongs to, 0 is the nearest."""
        return self.distance.argsort(kind="stable").argsort() * FIFTHS // len(self.distance)

    @property
    def near(self) -> Rate:
        """Success in the nearest fifth."""
        return rate(self.fell[self.fifths == 0])

    @property
    def far(self) -> Rate:
        """Success in the farthest fifth."""
        return rate(self.fell[self.fifths == FIFTHS - 1])

    @cached_property
    def risk(self) -> Risk | None:
        """How well success is foretold; None where there are too few successes or failures."""
        return risk(self.distance, self.margin, self.density, self.fell, self.seed)

    @cached_property
    def detection(self) -> Estimate:
        """AUROC of the distance for telling changed images from the originals (Figure 5 of the paper)."""
        return auroc(self.moved, self.distance, self.seed, paired=True)

    def numbers(self) -> dict[str, Any]:
        """Numbers of the finding."""
        slopes = [UNKNOWN, UNKNOWN]
        if self.risk:
            slopes = Logistic.fit(np.column_stack([self.distance, self.margin]), self.fell).slopes()
        scores = (
            self.risk.scores
            if self.risk
            else dict.fromkeys(("risk", "margin", "distance", "density"), UNKNOWN)
        )
        named: dict[str, Rate | Correlation | Estimate] = {
            "spearman": self.overall,
            "spearman_within_margin": self.within,
            "nearest_fifth_success": self.near,
            "farthest_fifth_success": self.far,
            "slope_distance": slopes[0],
            "slope_margin": slopes[1],
            **{f"auroc_{name}": score for name, score in scores.items()},
            "auroc_risk_over_margin": self.risk.gain if self.risk else UNKNOWN,
            "auroc_moved": self.detection,
            **({"recall": self.recall} if self.recall else {}),
        }
        return {
            name: value
            for key, known in named.items()
            for name, value in columns(f"{self.key}{key}", known).items()
        }

    def notes(self) -> tuple[str, ...]:
        """What a reader has to know of how the distances were found."""
        if not self.recall:
            return ()
        return (
            f"Approximate search in {self.where}: recall of the {self.neighbours} nearest {self.recall.value:.3f} "
            f"({self.recall.low:.3f}–{self.recall.high:.3f}), {self.recall.n} queries. A neighbour that is missed makes a distance "
            "larger, never smaller.",
        )

    def tables(self) -> dict[str, list[Row]]:
        """Tables of the finding."""
        tables = {
            "bins": self._bins(),
            "fifths": self._fifths(),
            "points": self._points(),
            "moved": self._shift(),
        }
        if self.risk:
            tables["risk"] = [
                {"score": name, **columns("auroc", score), "n": score.n}
                for name, score in self.risk.scores.items()
            ]
        return {f"{self.key}{name}": rows for name, rows in tables.items()}

    def figures(self) -> list[Figure]:
        """Figures of the finding: those of two extractors stand side by side in the same order."""
        bins, points, moved, risks = (
            f"{self.key}{name}" for name in ("bins", "points", "moved", "risk")
        )
        figures: list[Figure] = [
            RateOverHistogram(
                bins,
                "Above: success of the attack at eps on the images of each bin, with 95% intervals. Below: how the images "
                f"spread over the bins. Distance is the mean Euclidean distance to the {self.neighbours} nearest training images "
                f"in {self.where}.",
                table=bins,
                x_label="distance to the training data",
                y_label="attack success rate",
            ),
            Scatter(
                points,
                f"Smallest perturbation found for each image (up to {POINTS} of them) against its distance in {self.where}.",
                table=points,
                x="distance",
                y=self.norm,
                x_label="distance to the training data",
                y_label=f"smallest {norm_name(self.norm)} perturbation",
            ),
            Curve(
                moved,
                f"The distances of the same images before and after a harmless change ({self.change}), in {self.where}. As a "
                f"detector of the change the distance has an AUROC of {self.detection.value:.2f} ({self.detection.low:.2f}–"
                f"{self.detection.high:.2f}); 0.5 is a guess, and below it the change brings images nearer.",
                table=moved,
                x="distance",
                y="share",
                group="images",
                x_label="distance to the training data",
                y_label="share of images",
            ),
        ]
        if self.risk:
            figures.append(
                Bars(
                    risks,
                    "How well success of the attack at eps is foretold: the chance that an image which falls has a higher score "
                    "than one which does not (area under the ROC curve, AUROC; 0.5 is a guess), with 95% intervals. Risk joins the "
                    f"other three and is measured on images that it was not fitted to. Distance and density are in {self.where}.",
                    table=risks,
                    label="score",
                    series={"AUROC": "auroc"},
                    y_label="AUROC",
                )
            )
        return figures

    def _bins(self) -> list[Row]:
        """Bins of equal width."""
        edges = np.linspace(self.distance.min(), np.quantile(self.distance, TAIL), BINS + 1)
        place = np.clip(np.searchsorted(edges, self.distance, side="right") - 1, 0, BINS - 1)
        edges[-1] = self.distance.max()
        return [
            {
                "left": finite(edges[i]),
                "right": finite(edges[i + 1]),
                "share": finite(np.mean(place == i)),
                **self._rated(place == i),
            }
            for i in range(BINS)
        ]

    def _fifths(self) -> list[Row]:
        members = [self.fifths == i for i in range(FIFTHS)]
        return [
            {
                "fifth": i,
                "mean_distance": finite(self.distance[chosen].mean()),
                **self._rated(chosen),
            }
            for i, chosen in enumerate(members, start=1)
        ]

    def _rated(self, chosen: np.ndarray) -> Row:
        success = rate(self.fell[chosen])
        return {"n": success.n, **columns("rate", success)}

    def _points(self) -> list[Row]:
        shown = np.linspace(0, len(self.distance) - 1, min(POINTS, len(self.distance))).astype(int)
        return [
            {"distance": finite(self.distance[i], 4), self.norm: finite(self.smallest[i], 4)}
            for i in shown
        ]

    def _shift(self) -> list[Row]:
        """Both histograms over the same bins, each bin at its middle."""
        both = np.concatenate([self.distance, self.moved])
        edges = np.linspace(both.min(), np.quantile(both, TAIL), SHIFT_BINS + 1)
        rows = []
        for images, distances in {"original": self.distance, self.change: self.moved}.items():
            share = np.histogram(np.minimum(distances, edges[-1]), edges)[0] / len(distances)
            middles = zip((edges[1:] + edges[:-1]) / 2, share, strict=True)
            rows += [
                {"images": images, "distance": finite(middle), "share": finite(value)}
                for middle, value in middles
            ]
        return rows
