"""The finding of the blind-spot map."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from scotoma.execution.run import Run, Transform, name
from scotoma.probes.base import OF_CORRECT, columns, worst_rate
from scotoma.probes.blindspots.definition import HARMLESS, LIMITS, falls, points, verdict
from scotoma.probes.blindspots.probe import none_harmless, rise
from scotoma.probes.blindspots.search import MOST, Visit, best_so_far
from scotoma.probes.blindspots.transformed import (
    SCREEN,
    TransformedSet,
    alpha_beta,
    gallery,
)
from scotoma.results.finding import Bars, Curve, Figure, Finding, Heatmap, Row
from scotoma.results.ledger import Ledger
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.stats import Estimate, Rate, finite, paired_difference, rate

PROBE = "map"
PLANE = "scale-shift"
"""The family that is searched over a plane, (alpha, beta)."""
UNKNOWN = rate(np.zeros(0, bool))
NO_PREDICTION = columns("predicted_robust", UNKNOWN) | columns("residual", UNKNOWN)


COMPOSED = "composed"
"""The compositions of all families."""


@dataclass(frozen=True)
class Family:
    """A family's worst harmless transform.

    Args:
        name: of the family.
        chosen: the transform on the images that it was chosen on, under the cheap attack; None if
            no transform of the family is harmless.
        worst: the same transform on the other images, under the audit attack.
        control: its random control there.
    """

    name: str
    chosen: TransformedSet | None = None
    worst: TransformedSet | None = None
    control: TransformedSet | None = None

    @property
    def transform(self) -> Transform | None:
        return self.worst and self.worst.transform


@dataclass(frozen=True)
class SearchResult:
    """All transforms that were attacked.

    Args:
        base: the test set itself, under the audit attack.
        chosen_on: images that transforms are chosen on.
        held_out: images that they are reported on.
        families: with their worst transforms.
        plane: cells of the (alpha, beta) grid, under the cheap attack.
        refined: cells between those, under the cheap attack.
        sweeps: strengths of the other families, under the cheap attack.
        visits: points of the search over compositions.
    """

    base: TransformedSet
    chosen_on: list[int]
    held_out: list[int]
    families: list[Family] = field(default_factory=list)
    plane: list[TransformedSet] = field(default_factory=list)
    refined: list[TransformedSet] = field(default_factory=list)
    sweeps: dict[str, list[TransformedSet]] = field(default_factory=dict)
    visits: list[Visit] = field(default_factory=list)

    @property
    def verified(self) -> list[TransformedSet]:
        """The worst harmless transform of each family that has one."""
        return [family.worst for family in self.families if family.worst]

    @property
    def valid(self) -> list[TransformedSet]:
        """Those of `verified` whose images are valid, on which the verdict rests."""
        return [each for each in self.verified if each.is_valid]

    def told_by(self, ledger: Ledger) -> SearchResult:
        """Return the result with the smallest perturbations that any attack of the audit gave.

        It is on the images that nothing was chosen on. The cells of the search keep the cheap
        attack, by which they are compared.
        """
        other = ledger.on(self.held_out)
        families = [
            replace(
                each,
                worst=each.worst and each.worst.told_by(other),
                control=each.control and each.control.told_by(other),
            )
            for each in self.families
        ]
        return replace(self, base=self.base.told_by(other), families=families)

    @property
    def lowest(self) -> Family | None:
        """The family with the lowest robust accuracy on the images that transforms are chosen on.

        The transform itself is the worst of those on which the audit attack was run.
        """
        ranked = (each for each in self.families if each.chosen and each.worst)
        return min(ranked, key=_chosen, default=None)


def _chosen(family: Family) -> tuple[float, float]:
    assert family.chosen is not None
    return family.chosen.robust_scaled.value, family.chosen.change


def nothing(question: str, why: str) -> Finding:
    """Return the finding where nothing was searched."""
    return Finding(PROBE, question, "not applicable", LIMITS.rule, why)


def describe(
    searched: SearchResult, question: str, run: Run, attack: str, steps: int, ledger: Ledger
) -> Finding:
    """Return the finding for the result of a search, with images from the run."""
    result = searched.told_by(ledger)
    broken = [(each, rows) for each in result.verified if len(rows := each.broken_records())]
    first = [rows.head(1) for _, rows in broken]
    images = [each.images(run, rows) for (each, _), rows in zip(broken, first, strict=True)]
    return Finding(
        probe=PROBE,
        question=question,
        verdict=verdict(result.base, result.valid),
        rule=LIMITS.rule,
        headline=headline(result),
        numbers=_numbers(result),
        tables=_tables(searched, ledger),
        figures=(*_figures(result), *([_gallery(broken)] if broken else [])),
        notes=(
            f"Cheap attack: one minimum-norm search of {steps} steps for every cell and strength. "
            "Audit attack, on the test set itself, the worst harmless transform of each family and "
            f"its control: {attack}. Rates count all attacks of the audit on the same images; the "
            "map and the columns named cheap are those of the cheap attack alone.",
            f"Of the {len(result.chosen_on) + len(result.held_out)} audited images, transforms "
            f"were chosen on {len(result.chosen_on)} with the cheap attack. Rates of families, "
            f"controls and compositions are on the {len(result.held_out)} others, so that a row "
            "that is worse there need not be the one that was chosen. Among those equal on the "
            "images chosen on, it is the one that changes the images least. n_success, n_robust "
            "and n_accuracy are the numbers of images of the rates: classified correctly after "
            "the transform, attacked, and all test images that were classified.",
            f"Seems harmless: at most {points(HARMLESS)} of accuracy is lost on up to {SCREEN:,} "
            "test images. Only a transform that is shown to be harmless, by the rule above, can "
            "be the worst of its family; one that only seems harmless may show more.",
            "The verdict compares the fall of robust accuracy, from eps on the test set itself to "
            "alpha·eps after the transform; its intervals hold for all families at once.",
            "Predicted is the robust accuracy that the test set alone predicts: an image "
            "withstands the attack after the transform if it did before, at eps, and is still "
            "classified correctly. The residual is what was measured minus that.",
            "A control changes each image by the same mean absolute amount as the transform, but "
            "at random pixels, with random size and sign. Where the attack succeeds as often after "
            "the control, the size of the change matters, not its direction. A control may itself "
            "cost accuracy.",
        ),
        images={"worst": np.concatenate(images)} if broken else {},
        worst=_worst(result.lowest),
    )


def _worst(lowest: Family | None) -> tuple[float, str] | None:
    if lowest is None or lowest.worst is None:
        return None
    each = lowest.worst
    return worst_rate(each.success_scaled, f"{OF_CORRECT} are fooled after {each.name}")


def headline(result: SearchResult) -> str:
    """Return what the worst harmless transform and a random change of its size give the attack.

    A transform of another family that shows more on the images reported on is named too.
    """
    base, lowest = result.base, result.lowest
    if lowest is None or lowest.worst is None or lowest.control is None:
        return none_harmless("transform of the search", base.accuracy.n)
    each, control = lowest.worst, lowest.control
    at = " at alpha·eps" if each.contrast < 1 else ""
    random = (
        f"it is {control.success_scaled.value:.1%}{at} (accuracy {control.accuracy.value:.1%})"
        if control.success_scaled.n
        else "no image is classified correctly"
    )
    text = (
        f"After {each.name} (harmless: accuracy {each.accuracy.value:.1%}, before "
        f"{base.accuracy.value:.1%}; chosen on {len(result.chosen_on)} other images) "
        f"{rise(base, each)}. After a random change of the same size {random}."
    )
    more = max(result.valid, key=_success, default=each)
    if _success(more) <= _success(each):
        return text
    return (
        f"{text} On these images, which did not choose, {more.name} shows more: "
        f"{more.success_scaled.value:.1%}."
    )


def _success(each: TransformedSet) -> float:
    return each.success_scaled.value


def _numbers(result: SearchResult) -> dict[str, Any]:
    base, lowest = result.base, result.lowest
    numbers = {
        "n": base.robust.n,
        "n_chosen_on": len(result.chosen_on),
        "n_success": base.success.n,
        **columns("base_accuracy", base.accuracy),
        **columns("base_robust_eps", base.robust),
        **columns("base_success_eps", base.success),
    }
    if lowest is None or lowest.worst is None or lowest.control is None:
        return numbers
    each = lowest.worst
    return numbers | {
        "worst_family": lowest.name,
        "worst_transform": name(each.transform),
        "worst_parameters": json.loads(json.dumps(asdict(each.transform), default=asdict)),  # type: ignore[call-overload]
        **_prediction(result.base, each),
        "worst_mean_change": finite(each.change),
        **columns("worst_accuracy", each.accuracy),
        **columns("worst_robust_eps", each.robust),
        **columns("worst_robust_alpha_eps", each.robust_scaled),
        "n_worst_success": each.success.n,
        **columns("worst_success_eps", each.success),
        **columns("worst_success_alpha_eps", each.success_scaled),
        "n_control_success": lowest.control.success.n,
        **columns("control_success_eps", lowest.control.success),
        **columns("control_success_alpha_eps", lowest.control.success_scaled),
    }


def _prediction(base: TransformedSet, each: TransformedSet) -> Row:
    """Return the robust accuracy that the test set predicts after a transform, and the residual."""
    before, after = base.withstanding(base.eps), each.withstanding(each.scaled_eps)
    correct = each.withstanding(0.0)
    both = sorted(set(before) & set(after))
    predicted = np.array([before[i] and correct[i] for i in both], bool)
    measured = np.array([after[i] for i in both], bool)
    return columns("predicted_robust", rate(predicted)) | columns(
        "residual", paired_difference(measured, predicted)
    )


def _tables(searched: SearchResult, ledger: Ledger) -> dict[str, list[Row]]:
    """Return the tables; cells have the cheap attack's rates beside those over all attacks."""
    result, ledger = searched.told_by(ledger), ledger.on(searched.chosen_on)
    base = result.base

    def plane(sets: Iterable[TransformedSet]) -> list[Row]:
        rows = []
        for cheap in sets:
            each = cheap.told_by(ledger)
            alpha, beta = alpha_beta(each.transform)
            rows.append(
                {
                    "alpha": alpha,
                    "beta": beta,
                    "n_accuracy": each.accuracy.n,
                    "n_robust": each.robust.n,
                    **columns("accuracy", each.accuracy),
                    **columns("robust_alpha_eps", each.robust_scaled),
                    **columns("robust_eps", each.robust),
                    **columns("cheap_robust_alpha_eps", cheap.robust_scaled),
                    **columns("cheap_robust_eps", cheap.robust),
                    "seems_harmless": each.seems_harmless(base),
                }
            )
        return rows

    sweeps = [
        {
            "family": family,
            "transform": name(each.transform),
            "mean_change": finite(each.change),
            "n_accuracy": each.accuracy.n,
            "n_robust": each.robust.n,
            **columns("accuracy", each.accuracy),
            **columns("robust_eps", each.told_by(ledger).robust),
            **columns("cheap_robust_eps", each.robust),
            "seems_harmless": each.seems_harmless(base),
        }
        for family, sets in result.sweeps.items()
        for each in sets
    ]
    fallen = dict(zip(map(id, result.valid), falls(base, result.valid), strict=True))
    tables: dict[str, list[Row]] = {
        "families": [
            _family(each, base, fallen.get(id(each.worst), UNKNOWN))
            for each in (Family("none", worst=base), *result.families)
        ],
        "plane": plane(result.plane),
        "refined": plane(result.refined),
        "sweeps": sweeps,
    }
    if result.visits:
        curve = best_so_far(result.visits)
        tables["search"] = [{"passes": n, "score": finite(low)} for n, low in curve]
    return tables


def _family(family: Family, base: TransformedSet, fall: Estimate | Rate) -> Row:
    each, control = family.worst, family.control
    return {
        "family": family.name,
        "change": each.name if each else f"{family.name}: none is shown to be harmless",
        "transform": name(each.transform) if each else None,
        "mean_change": finite(each.change) if each else None,
        "n_accuracy": each.accuracy.n if each else None,
        **columns("accuracy", each.accuracy if each else UNKNOWN),
        "n_success": each.success.n if each else None,
        **columns("success_eps", each.success if each else UNKNOWN),
        **columns("success_alpha_eps", each.success_scaled if each else UNKNOWN),
        "n_robust": each.robust.n if each else None,
        **columns("robust_alpha_eps", each.robust_scaled if each else UNKNOWN),
        **columns("fall", fall),
        **columns("rejected", each.rejected if each else UNKNOWN),
        **(_prediction(base, each) if each else NO_PREDICTION),
        **columns("control_accuracy", control.accuracy if control else UNKNOWN),
        "n_control_success": control.success.n if control else None,
        **columns("control_success_eps", control.success if control else UNKNOWN),
        **columns("control_success_alpha_eps", control.success_scaled if control else UNKNOWN),
    }


def _figures(result: SearchResult) -> tuple[Figure, ...]:
    figures: tuple[Figure, ...] = (_bars(), _left())
    if result.visits:
        figures = (*figures, _search())
    return (*figures, *_heatmaps(result)) if result.plane else figures


def _search() -> Figure:
    return Curve(
        "search",
        "Search over compositions: the lowest score so far against the passes of the model that it "
        "took. The score is the mean smallest perturbation on the images chosen on, as a share of "
        f"the scaled budget and at most {MOST:g}; a lower one is a worse blind spot. A cost of "
        "accuracy beyond what is harmless has a price in it.",
        "search",
        x="passes",
        y="score",
        x_label="forward and backward passes",
        y_label="lowest score so far",
    )


def _bars() -> Figure:
    return Bars(
        "families",
        "Success rate of the attack at alpha·eps after the worst harmless transform of each family "
        "and after a random change of the same size, with 95% intervals. alpha is the contrast "
        "that scale-shift leaves, and 1 for the other families. Each transform was chosen on other "
        "images than those of the rates.",
        table="families",
        label="change",
        series={
            "the transform": "success_alpha_eps",
            "its random control": "control_success_alpha_eps",
        },
        y_label="attack success rate",
    )


def _left() -> Figure:
    return Bars(
        "left",
        "Robust accuracy after the worst harmless transform of each family, at alpha·eps: what the "
        "test set alone predicts (images that withstood the attack before and are still classified "
        "correctly), and what is left, with 95% intervals. A gap between the two is a blind spot.",
        table="families",
        label="change",
        series={"predicted": "predicted_robust", "left": "robust_alpha_eps"},
        y_label="robust accuracy",
    )


def _heatmaps(result: SearchResult) -> tuple[Figure, ...]:
    cells = [each.transform for each in result.verified if isinstance(each.transform, ScaleShift)]
    robust = Heatmap(
        "robust",
        "Robust accuracy in percent under the cheap attack at alpha·eps, after x' = alpha x + beta "
        "on [-0.5, 0.5]. Outside the triangle pixels would leave the range. The border encloses "
        f"the cells that seem harmless: on up to {SCREEN:,} test images they cost at most "
        f"{points(HARMLESS)} of accuracy. The ring is the worst of those that are shown to be "
        "harmless, by the rule, among these cells and those of the finer grids between them.",
        table="plane",
        x="alpha",
        y="beta",
        value="cheap_robust_alpha_eps",
        x_label="alpha",
        y_label="beta",
        value_label="robust accuracy",
        region="seems_harmless",
        marks={"worst that is shown to be harmless": alpha_beta(cells[0])} if cells else {},
    )
    caption, key = "Accuracy in percent without an attack, on the same plane.", "accuracy"
    return robust, replace(robust, name=key, caption=caption, value=key, value_label=key)


def _gallery(broken: list[tuple[TransformedSet, pl.DataFrame]]) -> Figure:
    """Describe one image for each family."""
    made = [
        gallery(
            "worst",
            "A test image; the same image after the worst harmless transform of each family, which "
            "the model still classifies correctly; and an adversarial image near that.",
            rows.head(1),
            each.name,
            each.threat.norm,
        )
        for each, rows in broken
    ]
    return replace(made[0], captions=[each.captions[0] for each in made])
