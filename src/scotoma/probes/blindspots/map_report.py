"""The finding of the blind-spot map."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from scotoma.execution.run import Run, name
from scotoma.probes.base import OF_CORRECT, columns, worst_rate
from scotoma.probes.blindspots.definition import HARMLESS, LIMITS, points
from scotoma.probes.blindspots.map_figures import figures, worst_images
from scotoma.probes.blindspots.map_result import Family, SearchResult
from scotoma.probes.blindspots.probe import none_harmless, rise
from scotoma.probes.blindspots.search import best_so_far
from scotoma.probes.blindspots.transformed import SCREEN, TransformedSet, alpha_beta
from scotoma.probes.blindspots.verdict import falls, verdict
from scotoma.results.finding import Finding, Row
from scotoma.results.ledger import Ledger
from scotoma.utils.stats import Estimate, Rate, finite, paired_difference, rate
from scotoma.utils.text import counted

UNKNOWN = rate(np.zeros(0, bool))
NO_PREDICTION = columns("predicted_robust", UNKNOWN) | columns("residual", UNKNOWN)


def describe(
    searched: SearchResult, question: str, run: Run, attack: str, steps: int, ledger: Ledger
) -> Finding:
    """Return the finding for the result of a search, with images from the run."""
    result = searched.with_ledger(ledger)
    examples = [(each, rows) for each in result.verified if len(rows := each.fooled_records())]
    first = [rows.head(1) for _, rows in examples]
    galleries = [worst_images(examples, run.claim.data.classes)] if examples else []
    images = [each.images(run, rows) for (each, _), rows in zip(examples, first, strict=True)]
    return Finding(
        probe="map",
        question=question,
        verdict=verdict(result.base, result.valid),
        rule=LIMITS.rule,
        headline=headline(result),
        numbers=_numbers(result),
        tables=_tables(searched, ledger),
        figures=(
            *figures(result),
            *galleries,
        ),
        notes=(
            f"Cheap attack: one minimum-norm search of {steps} steps for every cell and strength. "
            "Audit attack, on the test set itself, the worst harmless transform of each family and "
            f"its control: {attack}. Rates count all attacks of the audit on the same images; the "
            "map and the columns named cheap are those of the cheap attack alone.",
            f"Of the {len(result.chosen_on) + len(result.held_out)} audited images, transforms "
            f"were chosen on {len(result.chosen_on)} with the cheap attack. Rates of families, "
            f"controls and compositions are on the {len(result.held_out)} others, so that a row "
            "that is worse there need not be the one that was chosen. If several are equal on "
            "the images for the choice, the one that changes the images least is chosen. "
            "n_success, n_robust and n_accuracy are the numbers of images of the rates: classified "
            "correctly after the transform, attacked, and all test images that were classified.",
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
        images={"worst": np.concatenate(images)} if examples else {},
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
        return none_harmless("transform of the search with valid images", base.accuracy.n)
    each, control = lowest.worst, lowest.control
    at = " at alpha·eps" if each.contrast < 1 else ""
    random = (
        f"it is {control.success_scaled.value:.1%}{at} (accuracy {control.accuracy.value:.1%})"
        if control.success_scaled.n
        else "no image is classified correctly"
    )
    text = (
        f"After {each.name} (harmless: accuracy {each.accuracy.value:.1%}, before "
        f"{base.accuracy.value:.1%}; chosen on {counted(len(result.chosen_on), 'other image')}) "
        f"{rise(base, each)}. After a random change of the same size {random}."
    )
    worse = max(result.valid, key=_success, default=each)
    if _success(worse) <= _success(each):
        return text
    return (
        f"{text} On these images, which were not used to choose, {worse.name} gives a higher rate: "
        f"{worse.success_scaled.value:.1%}."
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
    parameters = json.dumps(asdict(each.transform), default=asdict)  # type: ignore[call-overload]
    return numbers | {
        "worst_family": lowest.name,
        "worst_transform": name(each.transform),
        "worst_parameters": json.loads(parameters),
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
    shared = sorted(set(before) & set(after))
    predicted = np.array([before[i] and correct[i] for i in shared], bool)
    withstanding = np.array([after[i] for i in shared], bool)
    residual = paired_difference(withstanding, predicted)
    return columns("predicted_robust", rate(predicted)) | columns("residual", residual)


def _tables(searched: SearchResult, ledger: Ledger) -> dict[str, list[Row]]:
    """Return the tables; cells have the cheap attack's rates beside those over all attacks."""
    result, ledger = searched.with_ledger(ledger), ledger.on(searched.chosen_on)
    base = result.base

    def plane(sets: Iterable[TransformedSet]) -> list[Row]:
        rows = []
        for cheap in sets:
            each = cheap.with_ledger(ledger)
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
            **columns("robust_eps", each.with_ledger(ledger).robust),
            **columns("cheap_robust_eps", each.robust),
            "seems_harmless": each.seems_harmless(base),
        }
        for family, sets in result.sweeps.items()
        for each in sets
    ]
    drops = dict(zip(map(id, result.valid), falls(base, result.valid), strict=True))
    tables: dict[str, list[Row]] = {
        "families": [
            _family(each, base, drops.get(id(each.worst), UNKNOWN))
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
