"""The finding of `patch`: blind spots before and after fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from scotoma.execution.run import Transform
from scotoma.probes.base import columns
from scotoma.probes.blindspots.definition import FALL, LIMITS, SCALED, blind
from scotoma.probes.blindspots.transformed import TransformedSet
from scotoma.results.finding import Bars, Finding, Row, Verdict
from scotoma.results.ledger import Ledger
from scotoma.utils.stats import Rate

LISTED = 8
"""Transforms that are named in a note."""
QUESTION = "Does training on the blind spots close them, or do others take their place?"
RULE = (
    f"{LIMITS.is_harmless} {SCALED} A blind spot is a harmless transform under which robust "
    f"accuracy is more than {100 * FALL:.0f} points below that at eps of the same images before "
    "it, by a 95% interval. Broken: after the training, a transform that was trained on is a "
    "blind spot. Weak: only others are. Otherwise it holds."
)


@dataclass(frozen=True)
class Comparison:
    """A transform, attacked on the model before and after the fine-tuning."""

    family: str
    trained: bool
    before: TransformedSet
    after: TransformedSet

    def told_by(self, before: Ledger, after: Ledger) -> Comparison:
        """Return the comparison with the smallest perturbations that any attack gave."""
        return replace(self, before=self.before.told_by(before), after=self.after.told_by(after))


def is_blind(each: TransformedSet, base: TransformedSet) -> bool:
    """Return whether a transform is a blind spot by `RULE`."""
    return each.is_harmless(base) and blind(base, [each])[0]


def describe(rows: Sequence[Comparison], trained_on: Sequence[Transform], attack: str) -> Finding:
    """Return the finding; the first comparison is that of the test set itself."""
    base, rest = rows[0], rows[1:]
    trained = [each for each in rest if each.trained]
    others = [each for each in rest if not each.trained]
    return Finding(
        probe="patch",
        question=QUESTION,
        verdict=_verdict(base, trained, others),
        rule=RULE,
        headline=_headline(base, trained, others),
        numbers={
            "n": base.before.accuracy.n,
            "trained_on": len(trained_on),
            **_both("base_accuracy", base, lambda each: each.accuracy),
            **_both("base_success", base, lambda each: each.success),
            **_both("worst_trained_success", _worst(trained), lambda each: each.success_scaled),
            **_both("worst_other_success", _worst(others), lambda each: each.success_scaled),
        },
        tables={"changes": [_row(each, base) for each in rows]},
        figures=(
            Bars(
                "changes",
                "Success rate of the attack at alpha·eps after each transform, before and after "
                "the fine-tuning, with 95% intervals. Transforms with a star were trained on.",
                table="changes",
                label="label",
                series={"before": "success_before", "after": "success_after"},
                y_label="attack success rate",
            ),
        ),
        notes=(
            f"Audit attack: {attack}; attacks of the search on the same images count too. The "
            "transforms are the grid of Zhang et al. 2019, the worst harmless transform of each "
            "family for the old model, and that for the new one. "
            "Success rates are over the images that each model classifies correctly after the "
            "transform.",
            f"Trained on: {'; '.join(map(str, trained_on[:LISTED]))}{_more(trained_on)}.",
        ),
    )


def _more(trained_on: Sequence[Transform]) -> str:
    more = len(trained_on) - LISTED
    return f"; and {more} more, random neighbours of a composition" if more > 0 else ""


def _worst(rows: Sequence[Comparison]) -> Comparison | None:
    """Return the transform under which the attack on the new model succeeds most often."""

    def success(each: Comparison) -> tuple[float, float]:
        return each.after.success_scaled.value, each.before.success_scaled.value

    return max(rows, key=success, default=None)


def _both(name: str, each: Comparison | None, read: Callable[[TransformedSet], Rate]) -> Row:
    if each is None:
        return {}
    before, after = read(each.before), read(each.after)
    return columns(f"{name}_before", before) | columns(f"{name}_after", after)


def _row(each: Comparison, base: Comparison) -> Row:
    return {
        "label": f"{each.before.name} *" if each.trained else each.before.name,
        "family": each.family,
        "trained_on": each.trained,
        "n": each.before.accuracy.n,
        **_both("accuracy", each, lambda side: side.accuracy),
        **_both("success", each, lambda side: side.success_scaled),
        "blind_before": each is not base and is_blind(each.before, base.before),
        "blind_after": each is not base and is_blind(each.after, base.after),
    }


def _verdict(
    base: Comparison, trained: Sequence[Comparison], others: Sequence[Comparison]
) -> Verdict:
    if any(is_blind(each.after, base.after) for each in trained):
        return "broken"
    return "weak" if any(is_blind(each.after, base.after) for each in others) else "holds"


def _headline(base: Comparison, trained: Sequence[Comparison], others: Sequence[Comparison]) -> str:
    def rates(each: Comparison, name: str = "success_scaled") -> str:
        before, after = getattr(each.before, name), getattr(each.after, name)
        return f"from {before.value:.1%} to {after.value:.1%}"

    closed, other = _worst(trained), _worst(others)
    assert closed is not None
    text = (
        "The fine-tuning takes the attack success rate at alpha·eps, among the images classified "
        f"correctly, {rates(closed)} after {closed.before.name}, which was trained on, and "
        f"{rates(base)} on the test set itself. It takes accuracy {rates(base, 'accuracy')}."
    )
    if other is None:
        return text
    name = other.before.name
    return f"{text} The worst transform that was not trained on is {name}: {rates(other)}."
