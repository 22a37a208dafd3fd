"""Do the test set and the training set come from one distribution?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Self

import numpy as np
import polars as pl
import torch

from scotoma.claim import Claim
from scotoma.data.dataset import Split
from scotoma.execution.effort import Least
from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled
from scotoma.metrics.class_divergence import FEWEST, divergence, shared_classes
from scotoma.metrics.embedding import ITERATIONS, PERPLEXITY, embed
from scotoma.metrics.resampling import DRAWS, Comparison
from scotoma.probes.base import Conclusion, Probe, Settings, check_layer, feature_layer
from scotoma.probes.divergence.report import ALL, FAR, QUESTION, Measures, Results, placed, rule
from scotoma.results.finding import Finding

DRAWN = pl.List(pl.Float64)
SCHEMA = {
    "measure": pl.String,
    "label": pl.Int64,
    "value": pl.Float64,
    "error": pl.Float64,
    "matched": DRAWN,
    "null": DRAWN,
}

Features = Callable[[str], np.ndarray]
"""From "training" or "test" to features of the drawn images, float32 (n, d)."""


@dataclass(frozen=True)
class Divergence(Probe):
    """How far the test set is from the training set.

    All test images count, not only the audited ones.

    Args:
        points: largest number of training and of test images, drawn at random; None means all, as
            in the paper.
        perplexity: perplexity of t-SNE.
        layer: layer whose features are used, as for the distance probe.
        far: AUC of a classifier above which the sets are far apart; K-L divergences are compared
            with that of two Gaussians with this AUC.

    Source:
        Zhang et al. 2019, section 3.2, Table 1.

    Example:
        >>> Divergence(points=1000).question
        'Do the test set and the training set come from one distribution?'
    """

    points: int | None = 10_000
    perplexity: float = PERPLEXITY
    layer: str | None = None
    far: float = FAR

    thresholds = ("far",)
    question = QUESTION
    compares_train = True
    leasts: ClassVar = {"points": Least(500, "training and test images of the divergence")}

    def prepare(self, claim: Claim) -> Self:
        check_layer(claim.model, claim.data, self.layer)
        return self

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Conclusion:
        if claim.data.train is None:
            return self._not_applicable(
                f"Data {claim.data.name} has no training split to compare the test set with."
            )
        splits = {"training": claim.data.train, "test": claim.data.test}
        indices = {name: self._draw(split, run.seed) for name, split in splits.items()}
        labels = {name: split.labels[indices[name]].numpy() for name, split in splits.items()}
        if not shared_classes(labels["training"], labels["test"]):
            return self._not_applicable(
                f"No class has {FEWEST} training and {FEWEST} test images among those measured."
            )
        layer, where = feature_layer(claim.model, claim.data, self.layer)

        @cache
        def features(name: str) -> np.ndarray:
            return run.features(splits[name], layer, indices[name])

        config = {
            "layer": layer,
            "points": self.points,
            "perplexity": self.perplexity,
            "seed": run.seed,
        }
        plane = run.table("embedding", config, lambda: self._embed(run, features, indices, labels))
        config |= {"draws": DRAWS}
        table = run.table("divergence", config, lambda: self._compare(run, features, plane))
        measures = self._read(table)
        if not measures["kl"]:
            return self._not_applicable(
                f"The features of the images ({where}) do not differ enough within any class."
            )
        results = Results(claim.data.classes, plane, measures, where, self.perplexity, self.far)
        return lambda ledger: results.finding()

    def _not_applicable(self, why: str) -> Conclusion:
        decides = rule(self.far)
        return lambda ledger: Finding("divergence", self.question, "not applicable", decides, why)

    def _draw(self, split: Split, seed: int) -> torch.Tensor:
        return shuffled(len(split), seed)[: self.points].sort().values

    def _embed(
        self,
        run: Run,
        features: Features,
        indices: dict[str, torch.Tensor],
        labels: dict[str, np.ndarray],
    ) -> pl.DataFrame:
        both = np.concatenate([features(name) for name in indices])
        with run.progress.bar(f"t-SNE of {len(both):,} images", ITERATIONS) as advance:
            points = embed(both, perplexity=self.perplexity, seed=run.seed, advance=advance)
        return pl.DataFrame(
            {
                "set": [name for name, rows in indices.items() for _ in rows],
                "index": np.concatenate([rows.numpy() for rows in indices.values()]),
                "label": np.concatenate([labels[name] for name in indices]),
                "x": points[:, 0],
                "y": points[:, 1],
            }
        )

    @staticmethod
    def _compare(run: Run, features: Features, plane: pl.DataFrame) -> pl.DataFrame:
        """Return the three measures with their draws, one row for each measure and class."""
        (train, train_labels), (test, test_labels) = placed(plane)
        divergences = divergence(
            features("training"),
            train_labels,
            features("test"),
            test_labels,
            plane=(train, test),
            seed=run.seed,
            progress=run.progress,
        )
        measures = {
            "kl": divergences.kl,
            "knn_kl": divergences.knn_kl,
            "auc": {} if divergences.auc is None else {ALL: divergences.auc},
        }
        rows = [
            {"measure": name, "label": label, **vars(comparison)}
            for name, classes in measures.items()
            for label, comparison in classes.items()
        ]
        return pl.DataFrame(rows, schema=SCHEMA)

    @staticmethod
    def _read(table: pl.DataFrame) -> Measures:
        measures: Measures = {"kl": {}, "knn_kl": {}, "auc": {}}
        for row in table.iter_rows(named=True):
            draws = {name: np.array(row[name]) for name in ("matched", "null")}
            measures[row["measure"]][row["label"]] = Comparison(row["value"], row["error"], **draws)
        return measures
