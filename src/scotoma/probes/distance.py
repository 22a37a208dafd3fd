"""Does it fail on the test points that lie far from its training data?"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import torch

from scotoma import records as rec
from scotoma.claim import Claim
from scotoma.errors import InputError
from scotoma.finding import Finding, RateOverHistogram, Scatter, Verdict
from scotoma.geometry.neighbours import mean_neighbour_distance
from scotoma.models.features import LOGITS, default_layer
from scotoma.probes.probe import Settings, columns, percent
from scotoma.run import Run
from scotoma.stats import Correlation, Rate, finite, rate, spearman

NEIGHBOURS = 5
FIFTHS = 5
BINS = 12
STRATA = 10
BROKEN = 0.5
RULE = (
    f"broken if the 95% interval of success at eps lies above {BROKEN:.0%} on the farthest fifth of the images and not on the "
    "nearest; else weak if distance and smallest perturbation have a negative rank correlation whose interval excludes zero; "
    f"else holds; not applicable without a training split or {FIFTHS} images that are classified correctly"
)
POINTS = 600


class Distance:
    """Attack success against distance to the training data (Zhang et al. 2019, section 4.2, Figures 1-3)."""

    question = "Does it fail on the test points that lie far from its training data?"

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Finding:
        if claim.data.train is None:
            return self._not_applicable(f"Data {claim.data.name} has no training split to measure distances to.")
        layer, note = self._layer(claim, settings)
        attacked = rec.correct(run.attack(settings.make_attack(claim.threat), what="distance"))
        if len(attacked) < FIFTHS:
            return self._not_applicable(f"The model classifies only {len(attacked)} of the audited images correctly.")
        distances = run.table("distance", {"layer": layer, "k": NEIGHBOURS}, lambda: self._distances(claim, run, layer))
        table = attacked.join(distances, on="index", maintain_order="left")
        distance, linf, margin = (table[column].to_numpy() for column in ("distance", "linf", "margin"))
        fell = rec.successes(attacked, claim.threat.eps)
        overall = spearman(distance, linf, run.seed)
        strata = margin.argsort(kind="stable").argsort() * STRATA // len(margin)
        within = spearman(distance, linf, run.seed, strata)
        by_margin = spearman(margin, linf, run.seed)
        fifths = distance.argsort(kind="stable").argsort() * FIFTHS // len(distance)
        near, far = rate(fell[fifths == 0]), rate(fell[fifths == FIFTHS - 1])
        return Finding(
            probe="distance",
            question=self.question,
            verdict=self._verdict(near, far, overall),
            rule=RULE,
            headline=self._headline(near, far, overall, within),
            numbers={
                **columns("spearman", overall),
                **columns("spearman_within_margin", within),
                **columns("spearman_margin", by_margin),
                **columns("nearest_fifth_success", near),
                **columns("farthest_fifth_success", far),
                "n": len(table),
                "neighbours": NEIGHBOURS,
                "training_images": len(claim.data.train),
                "layer": note,
            },
            tables={
                "bins": self._bins(distance, fell),
                "fifths": [
                    {"fifth": i + 1, "mean_distance": finite(distance[fifths == i].mean()), **self._rated(fell[fifths == i])}
                    for i in range(FIFTHS)
                ],
                "points": self._points(distance, linf),
            },
            figures=(
                RateOverHistogram(
                    "bins",
                    "Above: success of the attack at eps on the images of each bin, with 95% intervals. Below: how the images "
                    "spread over the bins. Distance is the mean Euclidean distance to the "
                    f"{NEIGHBOURS} nearest training images in {note}.",
                    table="bins",
                    x_label="distance to the training data",
                    y_label="attack success rate",
                ),
                Scatter(
                    "points",
                    f"Smallest perturbation found for each image (up to {POINTS} of them) against its distance.",
                    table="points",
                    x="distance",
                    y="linf",
                    x_label="distance to the training data",
                    y_label="smallest L-inf perturbation",
                ),
            ),
            notes=(
                "An image near the decision boundary is easy to attack wherever it lies. The correlation within strata of equal "
                f"clean margin ({STRATA} of them) is what distance tells beyond the margin.",
            ),
        )

    def _not_applicable(self, why: str) -> Finding:
        return Finding("distance", self.question, "not applicable", RULE, why)

    @staticmethod
    def _layer(claim: Claim, settings: Settings) -> tuple[str | None, str]:
        """The layer to read and how to name it."""
        if settings.layer:
            return settings.layer, settings.layer
        try:
            device = next(claim.model.module.parameters(), torch.empty(0)).device
            return None, default_layer(claim.model.module, claim.data.test.images(torch.arange(1)).to(device))
        except InputError:
            return LOGITS, "the logits (there is no dense layer to read)"

    @staticmethod
    def _distances(claim: Claim, run: Run, layer: str | None) -> pl.DataFrame:
        assert claim.data.train is not None
        train = run.features(claim.data.train, layer)
        test = run.features(claim.data.test, layer, run.indices)
        values = mean_neighbour_distance(train, test, NEIGHBOURS)
        return pl.DataFrame({"index": run.indices.numpy(), "distance": values})

    @staticmethod
    def _verdict(near: Rate, far: Rate, overall: Correlation) -> Verdict:
        if far.n and far.low > BROKEN and not near.low > BROKEN:
            return "broken"
        return "weak" if overall.high < 0 else "holds"

    @staticmethod
    def _headline(near: Rate, far: Rate, overall: Correlation, within: Correlation) -> str:
        spread = (
            f"The attack succeeds on {percent(far)} in the fifth farthest from the training data and on {near.value:.1%} in the "
            "nearest"
        )
        if math.isnan(overall.value):
            return f"{spread}; the attack found no perturbations of different sizes to compare with distance."
        if overall.high >= 0:
            return f"{spread}; that robustness fades with distance is not shown (rank correlation {overall.value:.2f})."
        if math.isnan(within.value):
            return f"{spread}; robustness fades with distance (rank correlation {overall.value:.2f})."
        beyond = "more than the margin explains" if within.high < 0 else "but the margin alone could explain it"
        return (
            f"{spread}; robustness fades with distance (rank correlation {overall.value:.2f}), {beyond} "
            f"({within.value:.2f} at equal margin)."
        )

    @classmethod
    def _bins(cls, distance: np.ndarray, fell: np.ndarray) -> list[dict]:
        """Bins of equal width; the few images beyond the 99th percentile join the last."""
        edges = np.linspace(distance.min(), np.quantile(distance, 0.99), BINS + 1)
        place = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, BINS - 1)
        edges[-1] = distance.max()
        return [
            {
                "left": finite(edges[i]),
                "right": finite(edges[i + 1]),
                "share": finite(np.mean(place == i)),
                **cls._rated(fell[place == i]),
            }
            for i in range(BINS)
        ]

    @staticmethod
    def _rated(fell: np.ndarray) -> dict:
        success = rate(fell)
        return {"n": success.n, "rate": finite(success.value), "low": finite(success.low), "high": finite(success.high)}

    @staticmethod
    def _points(distance: np.ndarray, linf: np.ndarray) -> list[dict]:
        shown = np.linspace(0, len(distance) - 1, min(POINTS, len(distance))).astype(int)
        return [{"distance": finite(distance[i], 4), "linf": finite(linf[i], 4)} for i in shown]
