"""What fine-tuning on blind spots did, as a finding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scotoma.execution.run import Transform
from scotoma.probes.base import columns
from scotoma.probes.blindspots.probe import HARMLESS
from scotoma.probes.blindspots.transformed import Spot
from scotoma.results.finding import Bars, Finding, Row, Verdict

QUESTION = "Does training on the blind spots close them, or only move them?"
RULE = (
    f"a blind spot is a change that costs at most {HARMLESS:.0%} of accuracy and under which the 95% interval of success at "
    "alpha·eps lies above that of success at eps on the test set itself; broken if after the training a change that was trained "
    "on is one, weak if only others are (the blind spot has moved), else holds; alpha is the contrast that scale-shift leaves, "
    "1 for every other change"
)


@dataclass(frozen=True)
class Change:
    """A change of the images, attacked on the model before and after the fine-tuning."""

    family: str
    trained: bool
    before: Spot
    after: Spot


def is_blind(spot: Spot, base: Spot) -> bool:
    """Whether a change is a blind spot by `RULE`."""
    return spot.is_harmless(base) and spot.scaled.low > base.success.high


def describe(changes: list[Change], spots: tuple[Transform, ...], attack: str) -> Finding:
    """The comparison; the first of `changes` is the test set itself."""
    base, rest = changes[0], changes[1:]
    trained = [change for change in rest if change.trained]
    others = [change for change in rest if not change.trained]
    return Finding(
        probe="patch",
        question=QUESTION,
        verdict=_verdict(base, trained, others),
        rule=RULE,
        headline=_headline(base, trained, others),
        numbers={
            "n": base.before.accuracy.n,
            "trained_on": len(spots),
            **_both("base_accuracy", base, lambda spot: spot.accuracy),
            **_both("base_success", base, lambda spot: spot.success),
            **_both("worst_trained_success", _worst(trained), lambda spot: spot.scaled),
            **_both("worst_other_success", _worst(others), lambda spot: spot.scaled),
        },
        tables={"changes": [_row(change, base) for change in changes]},
        figures=(
            Bars(
                "changes",
                "Success of the attack at alpha·eps under each change before and after the fine-tuning, with 95% intervals. The "
                "moves of scale-shift marked with a star were trained on, the other changes were not.",
                table="changes",
                label="label",
                series={
                    when: (f"success_{when}", f"success_{when}_low", f"success_{when}_high")
                    for when in ("before", "after")
                },
                y_label="attack success rate",
            ),
        ),
        notes=(
            f"Attack: {attack}. Changes: the paper's grid, and of each family the worst harmless change of the old model and that "
            "of the new one. Success is over the images that the model at hand classifies correctly after the change.",
            "Trained on: " + "; ".join(map(str, spots)) + ".",
        ),
    )


def _worst(changes: list[Change]) -> Change | None:
    """The change under which the new model falls most often."""
    return max(
        changes,
        key=lambda change: (change.after.scaled.value, change.before.scaled.value),
        default=None,
    )


def _both(name: str, change: Change | None, read: Callable[[Spot], object]) -> Row:
    row: Row = {}
    for when in ("before", "after"):
        if change is not None:
            row |= columns(f"{name}_{when}", read(getattr(change, when)))  # type: ignore[arg-type]
    return row


def _row(change: Change, base: Change) -> Row:
    what = str(change.before.transform or "the test set itself")
    return {
        "label": f"{what} *" if change.trained else what,
        "family": change.family,
        "trained_on": change.trained,
        "n": change.before.accuracy.n,
        **_both("accuracy", change, lambda spot: spot.accuracy),
        **_both("success", change, lambda spot: spot.scaled),
        "blind_before": change is not base and is_blind(change.before, base.before),
        "blind_after": change is not base and is_blind(change.after, base.after),
    }


def _verdict(base: Change, trained: list[Change], others: list[Change]) -> Verdict:
    if any(is_blind(change.after, base.after) for change in trained):
        return "broken"
    return "weak" if any(is_blind(change.after, base.after) for change in others) else "holds"


def _headline(base: Change, trained: list[Change], others: list[Change]) -> str:
    closed, moved = _worst(trained), _worst(others)
    assert closed is not None
    cost = base.before.accuracy.value - base.after.accuracy.value
    price = "at no cost of accuracy" if cost <= 0 else f"at a cost of {cost:.1%} of accuracy"
    said = (
        f"Under {closed.before.transform}, which was trained on, the attack succeeded on {closed.before.scaled.value:.1%} and now "
        f"succeeds on {closed.after.scaled.value:.1%}; on the test set itself on {base.before.success.value:.1%} and now on "
        f"{base.after.success.value:.1%}, {price}."
    )
    if moved is None:
        return said
    return (
        f"{said} Of what was not trained on, {moved.before.transform} is worst now: {moved.before.scaled.value:.1%} before, "
        f"{moved.after.scaled.value:.1%} after."
    )
