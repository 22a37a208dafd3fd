"""Distances of the audited images to the training data, in the features of one model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from scotoma.execution.run import Run, describe
from scotoma.execution.sampling import shuffled
from scotoma.metrics.approximate import EXACT, nearest_neighbours
from scotoma.metrics.density import COMPONENTS, class_log_density
from scotoma.metrics.neighbours import nearest_distance
from scotoma.models.classifier import Classifier
from scotoma.probes.base import feature_layer
from scotoma.transforms.scale_shift import ScaleShift

SHIFTED = {"mnist": (0.7, 0.0), "fashion-mnist": (0.9, 0.0)}
"""(alpha, beta) of the images measured beside the test set; Figure 5 of Zhang et al. 2019."""
RECALL = pl.Struct({"value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "n": pl.Int64})


@dataclass(frozen=True)
class FeatureSpace:
    """Distances of the audited images to the training data, in the features of one model.

    Args:
        extractor: the model, None for the audited one.
        layer: name of its layer.
        change: the harmless transform.
        neighbours: number of nearest training images over which a distance is a mean.
        measurements: `index`, `distance`, `unit` (distance in features of unit length), `length`
            (of the features), `moved` (distance after the transform), `density` (log density under
            the training images of the predicted class), `recall` (of the search for the nearest
            training images, null if it is exact).
    """

    extractor: Classifier | None
    layer: str
    change: ScaleShift
    neighbours: int
    measurements: pl.DataFrame

    @property
    def key(self) -> str:
        """Prefix of the names of numbers, tables and figures."""
        return "extractor_" if self.extractor else ""

    @property
    def where(self) -> str:
        """Name of the feature space, for captions."""
        extractor = self.extractor
        beside = f" of {extractor.name}, which is not the model under attack" if extractor else ""
        return f"{self.layer}{beside}"

    @classmethod
    def of(
        cls,
        run: Run,
        records: pl.DataFrame,
        layer: str | None,
        k: int,
        points: int | None,
        extractor: Classifier | None,
    ) -> FeatureSpace:
        """Measure the distances, once for a run; `records` have the predictions.

        At most `points` training images count, drawn at random; None means all.
        """
        data = run.claim.data
        train, test = data.train, data.test
        assert train is not None
        layer, name = feature_layer(extractor or run.claim.model, data, layer)
        change = ScaleShift(*SHIFTED.get(data.name, SHIFTED["mnist"]))
        config = {
            "layer": layer,
            "k": k,
            "unit": True,
            "change": describe(change),
            "components": COMPONENTS,
            "exact": EXACT,
            **({} if points is None else {"points": points, "seed": run.seed}),
        }
        sample = shuffled(len(train), run.seed)[:points].sort().values

        def measure() -> pl.DataFrame:
            # the costly part
            reference = run.features(train, layer, sample, model=extractor)
            original = run.features(test, layer, run.indices, model=extractor)
            transformed = run.features(test, layer, run.indices, model=extractor, transform=change)
            nearest = nearest_neighbours(reference, np.concatenate([original, transformed]), k)
            recall = [nearest.recall and nearest.recall._asdict()] * len(original)
            predictions = records["prediction"].to_numpy()
            labels = train.labels[sample].numpy()
            density = class_log_density(reference, labels, original, predictions)
            return pl.DataFrame(
                {
                    "index": run.indices.numpy(),
                    "distance": nearest.distance[: len(original)],
                    "unit": nearest_distance(reference, original, k, unit=True),
                    "length": np.linalg.norm(original, axis=1),
                    "moved": nearest.distance[len(original) :],
                    "recall": pl.Series(recall, dtype=RECALL),
                    "density": density,
                }
            )

        return cls(extractor, name, change, k, run.table("distance", config, measure, extractor))
