"""Does a handful of pixels carry the prediction?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from scotoma.attribution.occlusion import SETTINGS
from scotoma.claim import Claim
from scotoma.execution.effort import Effort, Least, is_default
from scotoma.execution.run import Measurement, Run
from scotoma.models.classifier import Classifier
from scotoma.models.loading import ModelLike
from scotoma.probes.base import Conclusion, Probe, Settings, is_prepared, load_other, model_facts
from scotoma.probes.inequality import report
from scotoma.probes.inequality.analysis import ModelAnalysis
from scotoma.probes.inequality.figures import (
    GalleryImages,
    cover_to_show,
    covers_to_show,
    maps_to_show,
)
from scotoma.probes.inequality.measurements import (
    WHAT,
    Plan,
    on_model,
    plan,
)
from scotoma.probes.inequality.reference import choose_reference
from scotoma.probes.inequality.verdict import Limits
from scotoma.probes.norms.gradients import choose_gradients
from scotoma.results.finding import Finding
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

STRIDES = {0.5: 2, 0.25: 5, 0.125: 5}
FEWEST_RADII = 10
"""Steps of the radii of occlusions by the share of the passes, and for smaller shares. The radii of
the paper, 10 and 20, are multiples of all of these."""


@dataclass(frozen=True)
class Inequality(Probe):
    """Measure how concentrated the evidence is and what changes at a few important places cost.

    Args:
        images: most images to measure, drawn at random from those that the model and the reference
            classify correctly.
        steps: steps of the integrated gradients.
        draws: draws of noise for each image.
        occlusions: (regions, radius) as in the paper, for images of 224 pixels a side; radii are
            scaled to the images.
        stride: radii are tried in steps of so many pixels.
        reference: a naturally trained model of the same architecture, with which the numbers are
            compared; None means a reference model from the zoo, or a small one trained now.

    Source:
        Duan et al. 2023.

    >>> Inequality(images=50).steps
    50
    """

    images: int = 300
    steps: int = 50
    draws: int = 5
    occlusions: tuple[tuple[int, int], ...] = SETTINGS
    stride: int = 1
    reference: ModelLike | None = None
    broken: float = Limits.broken
    wide: float = Limits.wide
    narrow: float = Limits.narrow

    thresholds = ("broken", "wide", "narrow")
    leasts: ClassVar = {
        "steps": Least(20, "points of the integrated gradients"),
        "draws": Least(2, "draws of noise"),
    }
    question = "Does a handful of pixels carry the prediction?"

    @property
    def limits(self) -> Limits:
        """The thresholds of the verdict."""
        return Limits(self.broken, self.wide, self.narrow)

    def within(self, effort: Effort) -> tuple[Self, list[str]]:
        probe, notes = super().within(effort)
        if effort.whole or not is_default(self, "stride"):
            return probe, notes
        stride = STRIDES.get(effort.share, FEWEST_RADII)
        return replace(probe, stride=stride), [*notes, f"1 of {stride} radii of the occlusions"]

    def __post_init__(self) -> None:
        if self.images < 1:
            raise InputError(f"images={self.images}: want at least 1 for the inequality probe")

    def prepare(self, claim: Claim) -> Self:
        if self.reference is None:
            return self
        return replace(self, reference=load_other(self.reference, claim.data))

    def provenance(self) -> dict[str, Any]:
        reference = self.reference
        assert is_prepared(reference)
        return (
            {"reference": {"name": reference.name, **model_facts(reference)}} if reference else {}
        )

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Conclusion:
        assert is_prepared(self.reference)
        gradients = choose_gradients(claim, run)
        if gradients.why:
            return self._not_applicable(f"{gradients.why}, so there are no attribution maps.")
        choice = choose_reference(claim, run, self.reference)
        reference = choice.model
        indices = self._correct_indices(run, reference)
        if not len(indices):
            both = " and the reference" if reference else ""
            return self._not_applicable(
                f"The model{both} classifies none of the audited images correctly."
            )
        planned = plan(run, self.steps, self.draws, self.occlusions, self.stride)
        readings = self._readings(run, planned, indices, reference)
        if not len(readings[0].table):
            return self._not_applicable(
                "The attribution maps are zero or not finite on every image."
            )
        run.attack(settings.make_attack(claim.threat), what="robustness")
        galleries = self._gallery_images(run, planned, readings, reference)
        omitted = len(indices) - len(readings[0].table)
        return partial(
            report.describe, self.question, self.limits, run, readings, galleries, choice, omitted
        )

    def _not_applicable(self, why: str) -> Conclusion:
        rule = self.limits.rule
        return lambda ledger: Finding("inequality", self.question, "not applicable", rule, why)

    def _correct_indices(self, run: Run, reference: Classifier | None) -> Tensor:
        """Return the first audited images that model and reference classify correctly, int64."""

        def see(
            model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
        ) -> dict[str, Tensor]:
            with torch.no_grad():
                return {"right": model(images).argmax(1) == labels}

        table = run.map_images("right", {}, on_model(reference, see), reference)
        if not len(table):
            return torch.zeros(0, dtype=torch.int64)
        correct = torch.zeros(len(run.claim.data.test), dtype=torch.bool)
        correct[table.filter("right")["index"].to_numpy(writable=True)] = True
        return run.indices[correct[run.indices]][: self.images]

    def _readings(
        self, run: Run, planned: Plan, indices: Tensor, reference: Classifier | None
    ) -> list[ModelAnalysis]:
        """Measure audited model and reference on the images whose maps are not zero."""
        measures = planned.measures
        models = {"audited": None} | ({"reference": reference} if reference else {})
        # includes images that the reference misclassifies, so that more images reuse the work units
        examined = run.subset(run.indices[: int((run.indices == indices[-1]).nonzero()) + 1])
        chosen = pl.col("index").is_in(indices.tolist())
        unfiltered = {
            name: examined.map_images(WHAT, planned.config, on_model(model, measures), model)
            for name, model in models.items()
        }
        tables = {name: table.filter(chosen) for name, table in unfiltered.items()}
        usable = np.all([~table["mute"].to_numpy() for table in tables.values()], axis=0)
        return [
            ModelAnalysis(name, planned, table.filter(pl.Series(usable)))
            for name, table in tables.items()
        ]

    @staticmethod
    def _gallery_images(
        run: Run, planned: Plan, readings: list[ModelAnalysis], reference: Classifier | None
    ) -> GalleryImages:
        """Return the images of the galleries."""

        def measure_on(
            index: Tensor, what: dict, measure: Measurement, model: Classifier | None = None
        ) -> pl.DataFrame:
            subset = run.subset(index.sort().values)
            table = subset.map_images(WHAT, planned.config | what, on_model(model, measure), model)
            order = pl.DataFrame({"index": index.numpy()})
            return order.join(table, on="index", how="inner", maintain_order="left")

        measures, index = planned.measures, maps_to_show(readings[0])
        models = (None, reference) if reference else (None,)
        what = {"shown": "maps"}
        maps = [measure_on(index, what, measures.shown, each) for each in models]
        cell, covers = cover_to_show(readings[0]), None
        fooled = covers_to_show(readings[0], cell)
        if len(fooled):
            what = {"shown": "covers", "colour": cell.kind, "number": cell.size}
            occlusion = planned.cover(cell.kind, cell.size)
            covers = measure_on(fooled, what, partial(measures.covers, occlusion))
        return GalleryImages(run.claim.data.test, run.claim.data.classes, maps, cell, covers)
