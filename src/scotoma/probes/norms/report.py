"""The finding of the norms probe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scotoma.claim import Claim
from scotoma.execution.run import Run
from scotoma.probes.base import OF_CORRECT, columns, percent, sized_threat, worst_rate
from scotoma.probes.norms.analysis import MISLED, NEARER, NormAnalysis
from scotoma.probes.norms.figures import amount, curve, curves, example_rows, gallery, images
from scotoma.probes.norms.gradients import DIRECTIONS, Gradients
from scotoma.probes.robustness import verdict as robustness
from scotoma.probes.scored import Scored
from scotoma.results.finding import Finding, Row, Verdict
from scotoma.results.ledger import Ledger
from scotoma.threat import Threat
from scotoma.utils.stats import finite, median
from scotoma.utils.text import norm_name, percentage


def rule(holds: float, broken: float) -> str:
    """Return how the verdict is found."""
    return (
        "for the attack success rates within the bounds of the norms other than the claim's: "
        f"broken if the interval lies above {percentage(broken)} in one norm, holds if it lies "
        f"below {percentage(holds)} in all, undecided if one reaches from below "
        f"{percentage(holds)} to above {percentage(broken)} and the others hold, else weak. The "
        "intervals hold for these norms at once with 95%"
    )


INSTEAD = {
    "exact": ", and neither BPDA nor differences of logits give another one",
    "bpda": (
        ": gradient-based attacks used slopes in place of its steps (BPDA), and in L2 their "
        "perturbations were then undone pixel by pixel"
    ),
    "estimate": (
        f": gradient-based attacks used differences of logits along {DIRECTIONS} random "
        f"directions, {2 * DIRECTIONS} forward passes a gradient"
    ),
}
"""What attacks use instead of gradients that are zero, as the end of a sentence."""


def describe(
    measured: dict[str, NormAnalysis],
    question: str,
    holds: float,
    broken: float,
    how: Sequence[str],
    run: Run,
    scored: Scored | None,
    ledger: Ledger,
) -> Finding:
    """Return the finding of the attacks `measured`; images count with their rows of the ledger.

    The verdict is on the whole test set if its images are `scored`. `how` are notes on the attacks.
    """
    claim, rows = run.claim, ledger.rows()
    readings = {
        norm: replace(reading, rows=rows, scored=scored) for norm, reading in measured.items()
    }
    others = {norm: reading for norm, reading in readings.items() if norm != claim.threat.norm}
    verdicts: dict[str, Verdict] = {
        norm: robustness.verdict(
            reading.on_all(len(others)) or reading.success_of(len(others)), holds, broken
        )
        for norm, reading in others.items()
    }
    examples = example_rows(readings)
    galleries = [gallery(readings, examples, claim.data.classes)] if len(examples) else []
    return Finding(
        probe="norms",
        question=question,
        verdict=_worst(verdicts.values()),
        rule=rule(holds, broken),
        headline=_headline(claim, readings, verdicts),
        numbers=_numbers(readings),
        tables={
            "norms": [_norm(claim, reading) for reading in readings.values()],
            "attacks": [row for reading in readings.values() for row in attacks(reading)],
            "masking": [
                _masking(reading)
                for reading in readings.values()
                if reading.decision_nearer is not None
            ],
            **{f"curve_{norm}": curve(reading) for norm, reading in readings.items()},
        },
        figures=(
            *galleries,
            *curves(claim, readings),
        ),
        notes=(*_notes(claim, readings), *how),
        images={"examples": images(run, readings, examples)} if len(examples) else {},
        worst=_highest(others),
    )


def _highest(readings: dict[str, NormAnalysis]) -> tuple[float, str] | None:
    rated = [reading for reading in readings.values() if reading.success.n]
    if not rated:
        return None
    reading = max(rated, key=lambda each: each.success.value)
    return worst_rate(reading.success, f"{OF_CORRECT} are fooled within {amount(reading.bound)}")


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    kinds, order = set(verdicts), ("broken", "weak", "undecided", "holds")
    for verdict in order:
        if verdict in kinds:
            return verdict
    return "not applicable"


def _headline(claim: Claim, readings: dict[str, NormAnalysis], verdicts: dict[str, Verdict]) -> str:
    if "not applicable" in verdicts.values():
        return robustness.NOTHING_TO_ATTACK
    if not verdicts:
        return (
            f"No attack was tried in a norm other than the claim's, {norm_name(claim.threat.norm)}."
        )
    overall = _worst(verdicts.values())
    norms = [norm for norm, verdict in verdicts.items() if verdict == overall]
    names = " and ".join(map(norm_name, norms))
    figures = "; ".join(_sentence(readings[norm]) for norm in norms)
    claimed = sized_threat(claim.threat)
    lead = {
        "broken": f"The claim of {claimed} does not extend to",
        "weak": f"The claim of {claimed} extends only in part to",
        "undecided": f"Too few images to tell whether the claim of {claimed} extends to",
        "holds": f"The claim of {claimed} extends to",
    }[overall]
    misled = [_misled(reading) for reading in readings.values() if reading.is_masked]
    return " ".join([f"{lead} {names}: {figures}.", *misled])


def _sentence(reading: NormAnalysis) -> str:
    """Return median and accuracy of a norm as part of a sentence."""
    robust = reading.accuracy()
    share = percent(robust).replace("images", "audited images")
    accuracy = f"robust accuracy at {amount(reading.bound)} is {share}"
    if not np.isfinite(reading.median):
        return f"no attack fools half of the images, and {accuracy}"
    if reading.median == 0:
        return f"half of the images are misclassified before any attack, and {accuracy}"
    size = amount(Threat(reading.bound.norm, reading.median))
    is_of = "changes" if reading.bound.norm == "l0" else "has size"
    return f"the median perturbation {is_of} {size}, and {accuracy}"


def _misled(reading: NormAnalysis) -> str:
    assert reading.decision_nearer is not None
    instead = "the gradients used instead of its own"
    which = "its gradients" if reading.gradient == "exact" else instead
    return (
        f"In {norm_name(reading.bound.norm)} {which} mislead attacks: decision-based attacks find "
        "clearly smaller perturbations for "
        f"{percent(reading.decision_nearer).replace('images', 'fooled images')}, so gradient-based "
        "attacks alone would overstate robustness."
    )


def _numbers(readings: dict[str, NormAnalysis]) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        f"median_{n}": finite(reading.median) for n, reading in readings.items()
    }
    for norm, reading in readings.items():
        numbers |= columns(f"accuracy_{norm}", reading.accuracy())
    for norm, reading in readings.items():
        if reading.decision_nearer is not None:
            numbers |= {
                **columns(f"decision_nearer_{norm}", reading.decision_nearer),
                f"masked_{norm}": reading.is_masked,
            }
    first = next(iter(readings.values()))
    bounds = {norm: finite(reading.bound.eps) for norm, reading in readings.items()}
    attacked = int(first.attacked.sum())
    return numbers | {"bounds": bounds, "attacked": attacked, "n": len(first.correct)}


def _norm(claim: Claim, reading: NormAnalysis) -> Row:
    on_all = reading.on_all()
    return {
        "norm": reading.bound.norm,
        "claimed": reading.bound.norm == claim.threat.norm,
        "bound": finite(reading.bound.eps),
        "median": finite(reading.median),
        **columns("accuracy", reading.accuracy()),
        **columns("success", reading.success),
        "n": len(reading.correct),
        **({} if on_all is None else columns("test_set_success", on_all)),
    }


def attacks(reading: NormAnalysis) -> list[Row]:
    """Return a row an attack; `found_minimum` is its share of the smallest perturbations."""
    fooled = int(reading.fooled.sum())
    return [
        {
            "norm": reading.bound.norm,
            "attack": each.name,
            "kind": each.kind,
            "gradient": each.gradient,
            "median": finite(median(distances).value),
            **columns("accuracy", reading.accuracy(distances)),
            "found_minimum": finite((reading.finder == number).sum() / fooled) if fooled else None,
            "forwards_per_image": finite(each.records["forwards"].to_numpy().mean()),
            "backwards_per_image": finite(each.records["backwards"].to_numpy().mean()),
        }
        for number, (each, distances) in enumerate(
            zip(reading.attacks, reading.distances, strict=True)
        )
    ]


def _masking(reading: NormAnalysis) -> Row:
    gradient, decision, nearer = (
        reading.smallest("gradient"),
        reading.smallest("decision"),
        reading.decision_nearer,
    )
    assert gradient is not None
    assert decision is not None
    assert nearer is not None
    return {
        "norm": reading.bound.norm,
        "n": nearer.n,
        "gradient": reading.gradient,
        "gradient_median": finite(median(gradient).value),
        "decision_median": finite(median(decision).value),
        **columns("decision_nearer", nearer),
        "masked": reading.is_masked,
    }


def _notes(claim: Claim, readings: dict[str, NormAnalysis]) -> list[str]:
    sizes = ", ".join(
        amount(reading.bound) for norm, reading in readings.items() if norm != claim.threat.norm
    )
    notes = [
        f"Bounds: {sizes}; the norm of the claim has the claimed eps. The option bounds sets "
        "others. L0 counts pixels, with all their channels.",
        "Each image counts with its smallest distance over all attacks of the audit, those of "
        "other probes among them: 0 if the model is wrong without an attack, infinite if no attack "
        "fools it; an infinite median is not reached. In the table of attacks each has its own "
        "numbers; the first attack of a norm that found the minimum is credited with it. "
        "Accuracies are shares of all audited images, success rates shares of those classified "
        "correctly.",
        f"A distance is clearly smaller if it is less than {NEARER:.0%} of the other. Gradients "
        "mislead if the 95% interval of the share of images with clearly smaller distances lies "
        f"above {MISLED:.0%}, among the images that attacks of either kind fool.",
    ]
    scored = next(iter(readings.values())).scored
    if scored is not None:
        notes.append(f"The verdict is on the whole test set. {scored.note}")
    return notes


def how_attacked(gradients: Gradients, queries: int, steps: int | None) -> list[str]:
    """Return notes on the gradients of attacks and their limits; steps None is no limit."""
    notes = [f"Decision-based attacks with a limit had {queries:,} queries an image."]
    if gradients.why:
        notes.append(f"{gradients.why}{INSTEAD[gradients.name]}.")
    if steps is not None:
        notes.append(f"Gradient-based attacks took at most {steps:,} steps.")
    return notes
