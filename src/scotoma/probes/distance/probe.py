"""Does it fail on the test points that lie far from its training data?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import polars as pl

from scotoma.claim import Claim
from scotoma.execution import records as rec
from scotoma.execution.run import Run, describe
from scotoma.metrics.approximate import EXACT, nearest_neighbours
from scotoma.metrics.density import COMPONENTS, class_log_density
from scotoma.metrics.risk import FEWEST
from scotoma.models.classifier import Classifier
from scotoma.models.loading import ModelLike
from scotoma.probes.base import (
    Probe,
    Settings,
    check_layer,
    columns,
    feature_layer,
    is_prepared,
    load_other,
    model_facts,
    percent,
)
from scotoma.probes.distance.analysis import FIFTHS, STRATA, Proximity
from scotoma.results.finding import Finding, Verdict
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.stats import Correlation, Rate, spearman

NEIGHBOURS = 5
BROKEN = 0.5
SHIFTED = {"mnist": (0.7, 0.0), "fashion-mnist": (0.9, 0.0)}
"""(alpha, beta) of the images that are measured beside the test set, as in Figure 5 of Zhang et al. 2019."""
RECALL = pl.Struct({"value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "n": pl.Int64})
RULE = (
    f"broken if the 95% interval of success at eps lies above {BROKEN:.0%} on the farthest fifth of the images and not on the "
    "nearest; else weak if distance and smallest perturbation have a negative rank correlation whose interval excludes zero; "
    f"else holds; not applicable without a training split or {FIFTHS} images that are classified correctly"
)


@dataclass(frozen=True)
class Distance(Probe):
    """Attack success against distance to the training data (Zhang et al. 2019, section 4.2, Figures 1-3 and 5).

    Distances are measured in the audited model's own features and, if an extractor is given, also
    in its features. The attacked model is always the audited one.

    Args:
        layer: layer whose features are used, a name of `named_modules()`, "pixels" or "logits";
            None is the input of the last dense layer.
        extractor: second model, in whose features the distances are measured again.
    """

    layer: str | None = None
    extractor: ModelLike | None = None

    question = "Does it fail on the test points that lie far from its training data?"

    def prepare(self, claim: Claim) -> Self:
        other = None if self.extractor is None else load_other(self.extractor, claim.data)
        for model in (claim.model, other) if other else (claim.model,):
            check_layer(model, claim.data, self.layer)
        return replace(self, extractor=other)

    def provenance(self) -> dict[str, Any]:
        other = self.extractor
        assert is_prepared(other)
        return {"extractor": {"name": other.name, **model_facts(other)}} if other else {}

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Finding:
        assert is_prepared(self.extractor)
        if claim.data.train is None:
            return self._not_applicable(
                f"Data {claim.data.name} has no training split to measure distances to."
            )
        own = feature_layer(claim.model, claim.data, self.layer)
        records = run.attack(settings.make_attack(claim.threat), what="distance")
        if len(rec.correct(records)) < FIFTHS:
            return self._not_applicable(
                f"The model classifies only {len(rec.correct(records))} of the audited images correctly."
            )
        seen = [self._proximity(claim, run, records, own)]
        extractor = {}
        if self.extractor:
            other = feature_layer(self.extractor, claim.data, self.layer)
            seen.append(self._proximity(claim, run, records, other, self.extractor))
            extractor = {"extractor": self.extractor.name, "extractor_layer": other[1]}
        first = seen[0]
        return Finding(
            probe="distance",
            question=self.question,
            verdict=self._verdict(first.near, first.far, first.overall),
            rule=RULE,
            headline=self._headline(first.near, first.far, first.overall, first.within),
            numbers={
                **first.numbers(),
                **columns("spearman_margin", spearman(first.margin, first.smallest, run.seed)),
                "n": len(first.distance),
                "neighbours": NEIGHBOURS,
                "training_images": len(claim.data.train),
                "layer": own[1],
                **extractor,
                **{name: value for other in seen[1:] for name, value in other.numbers().items()},
            },
            tables={name: rows for each in seen for name, rows in each.tables().items()},
            figures=tuple(
                figure
                for kind in zip(*(each.figures() for each in seen), strict=True)
                for figure in kind
            ),
            notes=(*self._notes(first), *(note for each in seen for note in each.notes())),
        )

    def _not_applicable(self, why: str) -> Finding:
        return Finding("distance", self.question, "not applicable", RULE, why)

    @classmethod
    def _proximity(
        cls,
        claim: Claim,
        run: Run,
        records: pl.DataFrame,
        layer: tuple[str | None, str],
        extractor: Classifier | None = None,
    ) -> Proximity:
        change = ScaleShift(*SHIFTED.get(claim.data.name, SHIFTED["mnist"]))
        config = {
            "layer": layer[0],
            "k": NEIGHBOURS,
            "change": describe(change),
            "components": COMPONENTS,
            "exact": EXACT,
        }
        placed = run.table(
            "distance",
            config,
            lambda: cls._place(claim, run, records, layer[0], change, extractor),
            extractor,
        )
        attacked = rec.correct(records)
        table = attacked.join(placed, on="index", maintain_order="left")
        return Proximity(
            key="extractor_" if extractor else "",
            where=f"{layer[1]} of {extractor.name}, which is not the model under attack"
            if extractor
            else layer[1],
            neighbours=NEIGHBOURS,
            change=str(change),
            **{name: table[name].to_numpy() for name in ("distance", "moved", "density", "margin")},
            smallest=table[claim.threat.norm].to_numpy(),
            norm=claim.threat.norm,
            fell=rec.successes(attacked, claim.threat.eps, claim.threat.norm),
            seed=run.seed,
            recall=Rate(**table["recall"][0]) if table["recall"][0] else None,
        )

    @staticmethod
    def _place(
        claim: Claim,
        run: Run,
        records: pl.DataFrame,
        layer: str | None,
        change: ScaleShift,
        extractor: Classifier | None,
    ) -> pl.DataFrame:
        """Where the audited images lie among the training data: distance, the same after `change`, and density.

        One table of all three, since the training features are the costly part and are read but once.
        """
        assert claim.data.train is not None
        train = run.features(claim.data.train, layer, model=extractor)
        test = run.features(claim.data.test, layer, run.indices, model=extractor)
        moved = run.features(claim.data.test, layer, run.indices, model=extractor, transform=change)
        found = nearest_neighbours(train, np.concatenate([test, moved]), NEIGHBOURS)
        predictions = records["prediction"].to_numpy()
        return pl.DataFrame(
            {
                "index": run.indices.numpy(),
                "distance": found.distance[: len(test)],
                "moved": found.distance[len(test) :],
                "recall": pl.Series(
                    [found.recall and found.recall._asdict()] * len(test), dtype=RECALL
                ),
                "density": class_log_density(
                    train, claim.data.train.labels.numpy(), test, predictions
                ),
            }
        )

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
            return (
                f"{spread}; robustness fades with distance (rank correlation {overall.value:.2f})."
            )
        beyond = (
            "more than the margin explains"
            if within.high < 0
            else "but the margin alone could explain it"
        )
        return (
            f"{spread}; robustness fades with distance (rank correlation {overall.value:.2f}), {beyond} "
            f"({within.value:.2f} at equal margin)."
        )

    @staticmethod
    def _notes(seen: Proximity) -> tuple[str, ...]:
        beyond = (
            "An image near the decision boundary is easy to attack wherever it lies. The correlation within strata of equal clean "
            f"margin ({STRATA} of them) is what distance tells beyond the margin."
        )
        if not seen.risk:
            return (
                beyond,
                f"With fewer than {FEWEST} successes or failures of the attack no slopes and no risk are fitted.",
            )
        return (
            beyond,
            "The slopes say the same without strata: the change of the log odds of success for one standard deviation of distance "
            "and of margin, the other held equal, by a logistic regression on both (Firth's penalty, Wald's intervals).",
            "Density is the logarithm of a Gaussian of the training images of the predicted class, with its own shrunk covariance, "
            f"in up to {COMPONENTS} principal components of the features. Risk joins distance, margin and density by a logistic "
            "regression in cross-validation; risk over margin is the area that it adds. Intervals are bootstrapped over images.",
        )
