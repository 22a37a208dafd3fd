"""Does the claim fail on test images far from the training data?"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

from scotoma.claim import Claim
from scotoma.execution import records as rec
from scotoma.execution.run import Run
from scotoma.metrics.density import COMPONENTS
from scotoma.metrics.risk import FEWEST
from scotoma.models.loading import ModelLike
from scotoma.probes.base import (
    Conclusion,
    Probe,
    Settings,
    check_layer,
    columns,
    is_prepared,
    load_other,
    model_facts,
    percent,
    worst_rate,
)
from scotoma.probes.distance.analysis import RAW, UNIT, DistanceAnalysis
from scotoma.probes.distance.space import FeatureSpace
from scotoma.probes.distance.trend import FIFTHS, Trend
from scotoma.probes.robustness.verdict import HOLDS
from scotoma.results.finding import Finding, Row, Verdict
from scotoma.results.ledger import Ledger
from scotoma.utils.errors import InputError
from scotoma.utils.stats import Estimate, Rate, difference, spearman

NEIGHBOURS = 5
BROKEN = 0.5
"""Success rate on the farthest fifth above which the claim fails there."""
LOOKED = 3000
"""Training images of a first look: reading the features of all takes most of the time."""
STRONG = -0.5
"""Rank correlation that the interval excludes for "holds": it would make distance a predictor."""


@dataclass(frozen=True)
class Distance(Probe):
    """Attack success against distance to the training data.

    Distances are measured in the audited model's features and, if an extractor is given, also in
    its features. The attacked model is always the audited one. Each distance is measured twice:
    with the features as they are, as in the paper, and with features of unit length.

    Args:
        layer: layer whose features are used: a name of `named_modules()`, "pixels" or "logits";
            None is the input of the last dense layer.
        extractor: second model, in whose features the distances are measured again.
        broken: success rate on the farthest fifth above which the claim fails there.
        neighbours: number of nearest training images over which a distance is a mean.
        points: largest number of training images, drawn at random; None means all.

    Raises:
        InputError: `neighbours` or `points` is below 1.

    Source:
        Zhang et al. 2019, section 4.2, Figures 1-3 and 5.

    Example:
        >>> Distance(layer="pixels").question
        'Does it fail on test images far from its training data?'
    """

    layer: str | None = None
    extractor: ModelLike | None = None
    broken: float = BROKEN
    neighbours: int = NEIGHBOURS
    points: int | None = None

    thresholds = ("broken",)
    question = "Does it fail on test images far from its training data?"
    compares_train = True

    def __post_init__(self):
        if self.neighbours < 1:
            raise InputError(f"neighbours={self.neighbours}: want at least one training image")
        if self.points is not None and self.points < 1:
            raise InputError(f"points={self.points}: want at least one training image")

    def first_look(self) -> Self:
        return replace(self, points=self.points or LOOKED)

    def prepare(self, claim: Claim) -> Self:
        extractor = None if self.extractor is None else load_other(self.extractor, claim.data)
        for model in (claim.model, extractor) if extractor else (claim.model,):
            check_layer(model, claim.data, self.layer)
        return replace(self, extractor=extractor)

    def provenance(self) -> dict[str, Any]:
        extractor = self.extractor
        assert is_prepared(extractor)
        return (
            {"extractor": {"name": extractor.name, **model_facts(extractor)}} if extractor else {}
        )

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Conclusion:
        extractor = self.extractor
        assert is_prepared(extractor)
        if claim.data.train is None:
            return self._not_applicable(
                f"Data {claim.data.name} has no training split to measure distances to."
            )
        records = run.attack(settings.make_attack(claim.threat), what="distance")
        correct = len(rec.correct(records))
        if correct < FIFTHS:
            return self._not_applicable(
                f"The model classifies only {correct} of the audited images correctly."
            )
        models = (None, extractor) if extractor else (None,)
        options = self.layer, self.neighbours, self.points
        spaces = [FeatureSpace.of(run, records, *options, model) for model in models]
        return partial(self._report, run, spaces)

    def _report(self, run: Run, spaces: list[FeatureSpace], ledger: Ledger) -> Finding:
        train, threat, other = run.claim.data.train, run.claim.threat, spaces[-1].extractor
        assert train is not None
        analyses = [DistanceAnalysis.of(each, threat, ledger, run.seed) for each in spaces]
        extractor = {"extractor": other.name, "extractor_layer": spaces[-1].layer} if other else {}
        first, *further = analyses
        raw, unit = first.trends[RAW], first.trends[UNIT]
        numbers = {
            **first.numbers(),
            **columns("spearman_margin", spearman(first["margin"], first.smallest, run.seed)),
            "n": len(first.table),
            "neighbours": self.neighbours,
            "training_images": min(len(train), self.points or len(train)),
            "layer": spaces[0].layer,
            **extractor,
        }
        tables: dict[str, list[Row]] = {}
        for each in analyses:
            tables |= each.tables()
        for each in further:
            numbers |= each.numbers()
        by_kind = zip(*(each.figures() for each in analyses), strict=True)
        return Finding(
            probe="distance",
            question=self.question,
            verdict=self._verdict(raw.near, raw.far, raw.overall),
            rule=self._rule,
            headline=self._headline(raw, unit),
            numbers=numbers,
            tables=tables,
            figures=tuple(itertools.chain(*by_kind)),
            notes=(*self._notes(first), *(note for each in analyses for note in each.notes())),
            worst=worst_rate(
                raw.far,
                "of the fifth of the images that lies farthest from the training data are fooled",
            ),
        )

    def _not_applicable(self, why: str) -> Conclusion:
        rule = self._rule
        return lambda ledger: Finding("distance", self.question, "not applicable", rule, why)

    @property
    def _rule(self) -> str:
        return (
            f"Broken: the 95% interval of the success rate at eps lies above {self.broken:.0%} on "
            "the farthest fifth of the images, and that of its difference from the nearest fifth "
            "above zero. Weak: distance and smallest perturbation have a negative rank correlation "
            "whose interval excludes zero. Undecided: the interval reaches below "
            f"{STRONG}, or there is no correlation and the success rate on the farthest fifth may "
            f"lie above {HOLDS:.0%}. Otherwise it holds. Not applicable: no training split, or "
            f"fewer than {FIFTHS} images classified correctly."
        )

    def _verdict(self, near: Rate, far: Rate, overall: Estimate) -> Verdict:
        if far.n and far.low > self.broken and difference(far, near).low > 0:
            return "broken"
        if overall.high < 0:
            return "weak"
        if math.isnan(overall.value):
            return "holds" if far.high < HOLDS else "undecided"
        return "holds" if overall.low >= STRONG else "undecided"

    @staticmethod
    def _headline(raw: Trend, unit: Trend) -> str:
        spread = (
            f"The attacks succeed on {percent(raw.far)} in the fifth that lies farthest from the "
            f"training data and on {raw.near.value:.1%} in the nearest fifth"
        )
        overall, within = raw.overall, raw.given_margin
        if math.isnan(overall.value):
            return f"{spread}; no two perturbations differ in size, so there is no correlation."
        correlation = f"rank correlation {overall.value:.2f}"
        text = f"{spread}. Robustness does not clearly fall with distance ({correlation})"
        if overall.high < 0:
            text = f"{spread}. Robustness falls with distance ({correlation})"
            if not math.isnan(within.value):
                explanation = "which the margin alone could explain"
                if within.high < 0:
                    explanation = "more than the margin explains"
                text += f", {explanation} ({within.value:.2f} at equal margin)"
        if math.isnan(unit.overall.value):
            return f"{text}."
        return (
            f"{text}; in features of unit length the rank correlation is {unit.overall.value:.2f}."
        )

    @staticmethod
    def _notes(analysis: DistanceAnalysis) -> tuple[str, ...]:
        margin = (
            "Images near the decision boundary are easy to attack at any distance. The partial "
            "rank correlation at equal clean margin shows what distance adds to the margin. Where "
            "long features belong to images that the model is sure of, these lie far from all "
            "others; in features of unit length the length has no influence."
        )
        if not analysis.risk:
            reason = f"the attacks have fewer than {FEWEST} successes or failures"
            return margin, f"Slopes and risk are missing: {reason}."
        return (
            margin,
            "Slopes are the change of the log odds of success for one standard deviation of "
            "distance or margin, the other fixed, by a logistic regression on both (penalty of "
            "Firth, Wald intervals).",
            "Density is the log density under a Gaussian, fitted to the training images of the "
            f"predicted class in at most {COMPONENTS} principal components of the features, with a "
            "shrunk covariance. Risk combines distance, margin and density by cross-validated "
            "logistic regression. Risk over margin is the AUROC that it adds. Intervals are "
            "bootstrapped over images.",
        )
