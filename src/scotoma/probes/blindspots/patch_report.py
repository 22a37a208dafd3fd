"""The finding of `patch`: blind spots before and after fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from scotoma.execution.run import Transform
from scotoma.probes.base import columns
from scotoma.probes.blindspots.definition import FALL, LIMITS, SCALED
from scotoma.probes.blindspots.transformed import TransformedSet
from scotoma.probes.blindspots.verdict import blind
from scotoma.results.finding import Bars, Finding, Row, Verdict
from scotoma.results.ledger import Ledger
from scotoma.training.pool import Pool
from scotoma.utils.stats import Rate

LISTED = 8
"""Transforms that are named in a note."""
INTERVAL = ("", "_low", "_high")
GENERATED = (
    ("generated_accuracy", "accuracy", INTERVAL),
    ("n_generated_accuracy", "n", ("",)),
    ("generated_success", "success_eps", INTERVAL),
    ("n_generated_success", "attacked", ("",)),
)
"""Key numbers on generated images, and the columns of probe `generated` that they are from."""
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

    def with_ledger(self, before: Ledger, after: Ledger) -> Comparison:
        """Return the comparison with the smallest perturbations that any attack gave."""
        return replace(
            self, before=self.before.with_ledger(before), after=self.after.with_ledger(after)
        )


def is_blind(each: TransformedSet, base: TransformedSet) -> bool:
    """Return whether a transform is a blind spot by `RULE`."""
    return each.is_harmless(base) and blind(base, [each])[0]


def describe(
    rows: Sequence[Comparison],
    trained_on: Sequence[Transform],
    attack: str,
    pool: Pool | None = None,
    generated: Sequence[Finding] = (),
) -> Finding:
    """Return the finding.

    Args:
        rows: comparisons, that of the test set itself first.
        trained_on: the transforms of the training.
        attack: the audit attack.
        pool: generated images of the training, if any.
        generated: findings of the probe `generated` before and after, if there is a pool.
    """
    base, rest = rows[0], rows[1:]
    trained = [each for each in rest if each.trained]
    others = [each for each in rest if not each.trained]
    return Finding(
        probe="patch",
        question=QUESTION,
        verdict=_verdict(base, trained, others),
        rule=RULE,
        headline=_headline(base, trained, others) + _on_generated(generated),
        numbers={
            "n": len(base.before.records),
            "n_accuracy": base.before.accuracy.n,
            "trained_on": len(trained_on),
            **_both("base_accuracy", base, lambda each: each.accuracy),
            **_both("base_success", base, lambda each: each.success, counted=True),
            **{
                key: value
                for name, worst in (
                    ("worst_trained_success", _worst(trained, base) or _worst(trained)),
                    ("worst_other_success", _worst(others, base)),
                )
                for key, value in _both(name, worst, lambda s: s.success_scaled, True).items()
            },
            **{
                f"{key}_{when}{end}": _generated_row(each)[name + end]
                for when, each in zip(("before", "after"), generated, strict=False)
                for key, name, ends in GENERATED
                for end in ends
            },
        },
        tables={"changes": [_row(each, base) for each in rows]},
        figures=(
            Bars(
                "changes",
                "Success rate of the attack at alpha·eps after each transform, before and after "
                "the fine-tuning, with 95% intervals. Transforms with a star were trained on; "
                "those in brackets are not shown to be harmless for the new model.",
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
            "transform (n_success); accuracy is over all test images that were classified "
            "(n_accuracy).",
            f"Trained on: {'; '.join([*map(str, trained_on[:LISTED]), *_pooled(pool)])}"
            f"{_more(trained_on)}.",
        ),
    )


def _pooled(pool: Pool | None) -> list[str]:
    return [] if pool is None else [f"{len(pool.labels):,} {pool.name}"]


def _on_generated(findings: Sequence[Finding]) -> str:
    """Return a sentence about generated images, "" where none were learnt from."""
    if not findings:
        return ""
    before, after = (
        f"{row['success_eps']:.1%} (n = {row['attacked']})" for row in map(_generated_row, findings)
    )
    return (
        " On valid generated images, others than those of the training, the attack success rate "
        f"at eps goes from {before} to {after}."
    )


def _generated_row(finding: Finding) -> Row:
    """Return the rates on valid generated images."""
    return finding.tables["sets"][1]


def _more(trained_on: Sequence[Transform]) -> str:
    more = len(trained_on) - LISTED
    return f"; and {more} more, random neighbours of a composition" if more > 0 else ""


def _worst(rows: Sequence[Comparison], base: Comparison | None = None) -> Comparison | None:
    """Return the transform under which the attack on the new model succeeds most often.

    With `base` it is one that is harmless for the new model.
    """

    def success(each: Comparison) -> tuple[float, float]:
        return each.after.success_scaled.value, each.before.success_scaled.value

    measured = [each for each in rows if each.after.success_scaled.n]
    harmless = [each for each in measured if base is None or each.after.is_harmless(base.after)]
    return max(harmless, key=success, default=None)


def _both(
    name: str,
    each: Comparison | None,
    rate_of: Callable[[TransformedSet], Rate],
    counted: bool = False,
) -> Row:
    """Return a rate on both models as columns; `counted` adds the number of images of each."""
    if each is None:
        return {}
    before, after = rate_of(each.before), rate_of(each.after)
    row = columns(f"{name}_before", before) | columns(f"{name}_after", after)
    return row | ({f"n_{name}_before": before.n, f"n_{name}_after": after.n} if counted else {})


def _row(each: Comparison, base: Comparison) -> Row:
    harmless = each is base or each.after.is_harmless(base.after)
    name = each.before.name if harmless else f"({each.before.name})"
    return {
        "label": f"{name} *" if each.trained else name,
        "family": each.family,
        "trained_on": each.trained,
        "n_accuracy": each.before.accuracy.n,
        **_both("accuracy", each, lambda side: side.accuracy),
        **_both("success", each, lambda side: side.success_scaled, counted=True),
        "harmless_before": each is base or each.before.is_harmless(base.before),
        "harmless_after": harmless,
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

    closed, other = _worst(trained, base), _worst(others, base)
    shown = closed or _worst(trained)
    after = ""
    if shown:
        caveat = "" if closed else ", but is not shown to be harmless for the new model"
        after = f" {rates(shown)} after {shown.before.name}, which was trained on{caveat}, and"
    text = (
        "The fine-tuning takes the attack success rate at alpha·eps, among the images classified "
        f"correctly,{after} {rates(base)} on the test set itself. It takes accuracy "
        f"{rates(base, 'accuracy')}."
    )
    if not others:
        return text
    if other is None:
        return f"{text} No transform that was not trained on is shown to be harmless."
    name = other.before.name
    return f"{text} The worst harmless transform that was not trained on is {name}: {rates(other)}."
