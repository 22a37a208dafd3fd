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
from scotoma.probes.norms.figures import amount, chosen, curve, curves, gallery, images
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
    tried: dict[str, NormAnalysis],
    question: str,
    holds: float,
    broken: float,
    how: Sequence[str],
    run: Run,
    scored: Scored | None,
    ledger: Ledger,
) -> Finding:
    """Return the finding of the attacks `tried`, where images count with their rows of the ledger.

    The verdict is on the whole test set if its images are `scored`. `how` are notes on the attacks.
    """
    claim, rows = run.claim, ledger.rows()
    readings = {norm: replace(read, found=rows, scored=scored) for norm, read in tried.items()}
    others = {norm: read for norm, read in readings.items() if norm != claim.threat.norm}
    verdicts: dict[str, Verdict] = {
        norm: robustness.verdict(
            read.on_all(len(others)) or read.success_of(len(others)), holds, broken
        )
        for norm, read in others.items()
    }
    shown = chosen(readings)
    galleries = [gallery(readings, shown, claim.data.classes)] if len(shown) else []
    return Finding(
        probe="norms",
        question=question,
        verdict=_worst(verdicts.values()),
        rule=rule(holds, broken),
        headline=_headline(claim, readings, verdicts),
        numbers=_numbers(readings),
        tables={
            "norms": [_norm(claim, read) for read in readings.values()],
            "attacks": [row for read in readings.values() for row in attacks(read)],
            "masking": [
                _masking(read) for read in readings.values() if read.decision_nearer is not None
            ],
            **{f"curve_{norm}": curve(read) for norm, read in readings.items()},
        },
        figures=(
            *galleries,
            *curves(claim, readings),
        ),
        notes=(*_notes(claim, readings), *how),
        images={"examples": images(run, readings, shown)} if len(shown) else {},
        worst=_highest(others),
    )


def _highest(readings: dict[str, NormAnalysis]) -> tuple[float, str] | None:
    rated = [read for read in readings.values() if read.success.n]
    if not rated:
        return None
    read = max(rated, key=lambda each: each.success.value)
    return worst_rate(read.success, f"{OF_CORRECT} are fooled within {amount(read.bound)}")


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    held, order = set(verdicts), ("broken", "weak", "undecided", "holds")
    for verdict in order:
        if verdict in held:
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
    said = {
        "broken": f"The claim of {claimed} does not extend to",
        "weak": f"The claim of {claimed} extends only in part to",
        "undecided": f"Too few images to tell whether the claim of {claimed} extends to",
        "holds": f"The claim of {claimed} extends to",
    }[overall]
    misled = [_misled(read) for read in readings.values() if read.is_masked]
    return " ".join([f"{said} {names}: {figures}.", *misled])


def _sentence(read: NormAnalysis) -> str:
    """Return median and accuracy of a norm as part of a sentence."""
    left = read.accuracy()
    share = percent(left).replace("images", "audited images")
    accuracy = f"robust accuracy at {amount(read.bound)} is {share}"
    if not np.isfinite(read.median):
        return f"no attack fools half of the images, and {accuracy}"
    if read.median == 0:
        return f"half of the images are misclassified before any attack, and {accuracy}"
    size = amount(Threat(read.bound.norm, read.median))
    is_of = "changes" if read.bound.norm == "l0" else "has size"
    return f"the median perturbation {is_of} {size}, and {accuracy}"


def _misled(read: NormAnalysis) -> str:
    assert read.decision_nearer is not None
    which = "its gradients" if read.gradient == "exact" else "the gradients used instead of its own"
    return (
        f"In {norm_name(read.bound.norm)} {which} mislead attacks: decision-based attacks find "
        "clearly smaller perturbations for "
        f"{percent(read.decision_nearer).replace('images', 'fooled images')}, so gradient-based "
        "attacks alone would overstate robustness."
    )


def _numbers(readings: dict[str, NormAnalysis]) -> dict[str, Any]:
    numbers: dict[str, Any] = {f"median_{n}": finite(read.median) for n, read in readings.items()}
    for norm, read in readings.items():
        numbers |= columns(f"accuracy_{norm}", read.accuracy())
    for norm, read in readings.items():
        if read.decision_nearer is not None:
            numbers |= {
                **columns(f"decision_nearer_{norm}", read.decision_nearer),
                f"masked_{norm}": read.is_masked,
            }
    first = next(iter(readings.values()))
    bounds = {norm: finite(read.bound.eps) for norm, read in readings.items()}
    attacked = int(first.attacked.sum())
    return numbers | {"bounds": bounds, "attacked": attacked, "n": len(first.correct)}


def _norm(claim: Claim, read: NormAnalysis) -> Row:
    on_all = read.on_all()
    return {
        "norm": read.bound.norm,
        "claimed": read.bound.norm == claim.threat.norm,
        "bound": finite(read.bound.eps),
        "median": finite(read.median),
        **columns("accuracy", read.accuracy()),
        **columns("success", read.success),
        "n": len(read.correct),
        **({} if on_all is None else columns("test_set_success", on_all)),
    }


def attacks(read: NormAnalysis) -> list[Row]:
    """Return a row an attack; `found_minimum` is its share of the smallest perturbations."""
    broken = int(read.broken.sum())
    return [
        {
            "norm": read.bound.norm,
            "attack": each.name,
            "kind": each.kind,
            "gradient": each.gradient,
            "median": finite(median(distances).value),
            **columns("accuracy", read.accuracy(distances)),
            "found_minimum": finite((read.finder == number).sum() / broken) if broken else None,
            "forwards_per_image": finite(each.records["forwards"].to_numpy().mean()),
            "backwards_per_image": finite(each.records["backwards"].to_numpy().mean()),
        }
        for number, (each, distances) in enumerate(zip(read.tried, read.distances, strict=True))
    ]


def _masking(read: NormAnalysis) -> Row:
    gradient, decision, nearer = read.by("gradient"), read.by("decision"), read.decision_nearer
    assert gradient is not None
    assert decision is not None
    assert nearer is not None
    return {
        "norm": read.bound.norm,
        "n": nearer.n,
        "gradient": read.gradient,
        "gradient_median": finite(median(gradient).value),
        "decision_median": finite(median(decision).value),
        **columns("decision_nearer", nearer),
        "masked": read.is_masked,
    }


def _notes(claim: Claim, readings: dict[str, NormAnalysis]) -> list[str]:
    sizes = ", ".join(
        amount(read.bound) for norm, read in readings.items() if norm != claim.threat.norm
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
