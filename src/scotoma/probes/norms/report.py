"""What the norms probe says: the finding from the readings of each norm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from scotoma.claim import Claim, Threat
from scotoma.execution.run import Run
from scotoma.probes.base import OF_CORRECT, columns, percent, worst_rate
from scotoma.probes.norms.analysis import MISLED, NEARER, Reading
from scotoma.probes.norms.figures import amount, chosen, curve, curves, gallery, images
from scotoma.probes.norms.gradients import DIRECTIONS, Gradients
from scotoma.probes.robustness import probe as robustness
from scotoma.results.finding import Finding, Row, Verdict
from scotoma.utils.stats import finite, median
from scotoma.utils.text import norm_name

RULE = (
    "in the norms other than the claim's, the success rate within their bounds: broken if in some norm its 95% interval lies "
    f"above {robustness.BROKEN:.0%}, holds if in all of them it lies below {robustness.HOLDS:.0%}, else weak"
)

INSTEAD = {
    "exact": ", and neither slopes in the place of steps nor differences of logits give another",
    "bpda": (
        ": attacks that follow gradients were given those of slopes in the place of its steps (BPDA), "
        "and in L2 their examples were then taken back pixel by pixel"
    ),
    "estimate": (
        f": attacks that follow gradients were given differences of logits along {DIRECTIONS} random "
        f"directions, {2 * DIRECTIONS} forward passes a gradient"
    ),
}
"""What is given in the place of gradients that lead nowhere."""


def describe(
    question: str,
    claim: Claim,
    run: Run,
    readings: dict[str, Reading],
    gradients: Gradients,
    queries: int,
    steps: int | None,
) -> Finding:
    """The finding of the readings, by norm; `queries` and `steps` are what attacks were told."""
    others = {norm: read for norm, read in readings.items() if norm != claim.threat.norm}
    verdicts: dict[str, Verdict] = {
        norm: robustness.verdict(read.success) for norm, read in others.items()
    }
    shown = chosen(readings)
    return Finding(
        probe="norms",
        question=question,
        verdict=_worst(verdicts.values()),
        rule=RULE,
        headline=_headline(claim, readings, verdicts),
        numbers=_numbers(readings),
        tables={
            "norms": [_norm(claim, read) for read in readings.values()],
            "attacks": [row for read in readings.values() for row in _attacks(read)],
            "masking": [
                _masking(read) for read in readings.values() if read.decision_nearer is not None
            ],
            **{f"curve_{norm}": curve(read) for norm, read in readings.items()},
        },
        figures=(*([gallery(readings, shown)] if len(shown) else []), *curves(claim, readings)),
        notes=_notes(claim, readings, gradients, queries, steps),
        images={"examples": images(run, readings, shown)} if len(shown) else {},
        worst=_highest(others),
    )


def _highest(readings: dict[str, Reading]) -> tuple[float, str] | None:
    rated = [read for read in readings.values() if read.success.n]
    if not rated:
        return None
    read = max(rated, key=lambda each: each.success.value)
    return worst_rate(read.success, f"{OF_CORRECT} are fooled within {amount(read.bound)}")


def _worst(verdicts: Iterable[Verdict]) -> Verdict:
    held, order = set(verdicts), ("broken", "weak", "holds")
    for verdict in order:
        if verdict in held:
            return verdict
    return "not applicable"


def _headline(claim: Claim, readings: dict[str, Reading], verdicts: dict[str, Verdict]) -> str:
    if "not applicable" in verdicts.values():
        return "The model classifies none of the audited images correctly, so there is nothing to attack."
    if not verdicts:
        return (
            f"No attack was tried in another norm than the claim's, {norm_name(claim.threat.norm)}."
        )
    overall = _worst(verdicts.values())
    norms = [norm for norm, verdict in verdicts.items() if verdict == overall]
    names = " and ".join(map(norm_name, norms))
    figures = "; ".join(_told(readings[norm]) for norm in norms)
    claimed = amount(claim.threat)
    said = {
        "broken": f"The claim of {claimed} says nothing in {names}: {figures}.",
        "weak": f"The claim of {claimed} carries over to {names} in part only: {figures}.",
        "holds": f"The claim of {claimed} carries over to {names}: {figures}.",
    }
    return " ".join(
        [said[overall], *(_misled(read) for read in readings.values() if read.is_masked)]
    )


def _told(read: Reading) -> str:
    """Median and accuracy of a norm in a sentence."""
    left = read.accuracy()
    accuracy = f"accuracy at {amount(read.bound)} is {left.value:.1%} ({100 * left.low:.1f}–{left.high:.1%})"
    if not np.isfinite(read.median):
        return f"the median distance is not reached, and {accuracy}"
    if read.median == 0:
        return f"half of the images are wrong before any attack, and {accuracy}"
    return f"a median of {amount(Threat(read.bound.norm, read.median))} is enough, and {accuracy}"


def _misled(read: Reading) -> str:
    assert read.decision_nearer is not None
    which = (
        "its gradients" if read.gradient == "exact" else "the gradients that stand in for its own"
    )
    return (
        f"In {norm_name(read.bound.norm)} {which} mislead attacks: on {percent(read.decision_nearer)} attacks that see "
        "decisions alone come clearly nearer, so that gradient attacks alone would overstate it."
    )


def _numbers(readings: dict[str, Reading]) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        f"median_{norm}": finite(read.median) for norm, read in readings.items()
    }
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
    return numbers | {"bounds": bounds, "attacked": int(first.right.sum()), "n": len(first.right)}


def _norm(claim: Claim, read: Reading) -> Row:
    return {
        "norm": read.bound.norm,
        "claimed": read.bound.norm == claim.threat.norm,
        "bound": finite(read.bound.eps),
        "median": finite(read.median),
        **columns("accuracy", read.accuracy()),
        **columns("success", read.success),
        "n": len(read.right),
    }


def _attacks(read: Reading) -> list[Row]:
    """A row an attack; `found_minimum` is the share of the broken images whose smallest distance it found first."""
    broken = int(read.broken.sum())
    rows = []
    for number, (each, distances) in enumerate(zip(read.tried, read.distances, strict=True)):
        row = {
            "norm": read.bound.norm,
            "attack": each.name,
            "kind": each.kind,
            "gradient": each.gradient,
            "median": finite(median(distances).value),
            **columns("accuracy", read.accuracy(distances)),
            "found_minimum": finite((read.finder == number).sum() / broken) if broken else None,
        }
        passes = {
            f"{kind}_per_image": finite(each.records[kind].to_numpy().mean())
            for kind in ("forwards", "backwards")
        }
        rows.append(row | passes)
    return rows


def _masking(read: Reading) -> Row:
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


def _notes(
    claim: Claim,
    readings: dict[str, Reading],
    gradients: Gradients,
    queries: int,
    steps: int | None,
) -> tuple[str, ...]:
    sizes = ", ".join(
        amount(read.bound) for norm, read in readings.items() if norm != claim.threat.norm
    )
    notes = [
        f"Bounds: {sizes}; in the norm of the claim its own. Others can be given with --bounds. L0 counts pixels, all channels of "
        "one together. Decision-based attacks that are told when to stop had "
        f"{queries:,} queries an image.",
        "Each image counts with its smallest distance over the attacks of a norm: 0 where the model is wrong already, infinite "
        "where none broke it; a median that is infinite is not reached. An attack is credited with a minimum that it found before "
        "the others of its norm. Accuracies are shares of all audited images; success rates, of those that the model has right.",
        f"An image is clearly nearer at less than {NEARER:.0%} of the other distance. Gradients are said to mislead where the 95% "
        f"interval of the share of such images lies above {MISLED:.0%}, among those that attacks of either kind broke.",
    ]
    if gradients.why:
        notes.append(f"{gradients.why}{INSTEAD[gradients.name]}.")
    if steps is not None:
        notes.append(f"Attacks that follow gradients were told to take {steps:,} steps at most.")
    return tuple(notes)
