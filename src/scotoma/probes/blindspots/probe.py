"""Do harmless changes of contrast and background void the claim?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

from scotoma.claim import Claim
from scotoma.execution.effort import Effort, is_default
from scotoma.execution.run import Run
from scotoma.probes.base import (
    OF_CORRECT,
    Conclusion,
    Probe,
    Settings,
    columns,
    correct,
    worst_rate,
)
from scotoma.probes.blindspots.definition import (
    BROKEN,
    FALL,
    HARMLESS,
    LIMITS,
    REJECTED,
    Limits,
    enough,
    points,
)
from scotoma.probes.blindspots.grid import contrast_shifts, tints
from scotoma.probes.blindspots.transformed import (
    TransformedSet,
    alpha_beta,
    attack_transformed,
    classified,
    contrast_shift,
    gallery,
    judged,
    one_a_class,
    untouched,
)
from scotoma.probes.blindspots.verdict import falls, verdict
from scotoma.probes.robustness.verdict import NOTHING_TO_ATTACK
from scotoma.probes.scored import Scored
from scotoma.results.finding import Bars, Finding, Row
from scotoma.results.ledger import Ledger
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.stats import UNDEFINED, Estimate
from scotoma.utils.text import counted
from scotoma.validity import oracle_for


@dataclass(frozen=True)
class BlindSpots(Probe):
    """The blind-spot attack: success of an attack after shifts of contrast and background.

    Photographs are tinted too: one colour channel at a time is made brighter or darker.

    Args:
        harmless: accuracy that a harmless shift may cost.
        fall: fall of robust accuracy after a harmless shift that makes it a blind spot.
        broken: success rate after it above which the claim is broken.
        unshown: attack also where too few test images can show that a shift is harmless.

    Source:
        Zhang et al. 2019, section 3.3 and Table 2.

    Example:
        >>> BlindSpots().question
        'Do harmless changes of contrast and background void the claim?'
    """

    harmless: float = HARMLESS
    fall: float = FALL
    broken: float = BROKEN
    unshown: bool = True

    thresholds = ("harmless", "fall", "broken")
    question = "Do harmless changes of contrast and background void the claim?"

    @property
    def _limits(self) -> Limits:
        return Limits(self.harmless, self.fall, self.broken)

    def within(self, effort: Effort) -> tuple[Self, list[str]]:
        if effort.whole or not is_default(self, "unshown"):
            return self, []
        limit = "contrast shifts are attacked if enough test images can show that they are harmless"
        return replace(self, unshown=False), [limit]

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Conclusion:
        sets, shifts = [], contrast_shifts(claim.data.name, claim.data.shape)
        grid = [*(contrast_shift(*shift) for shift in shifts), *tints(claim.data.shape)]
        with run.progress.bar("blind spots", len(grid)) as advance:
            for transform in grid:
                transformed = classified(run, untouched(run, transform))
                if not sets or self._worth_attacking(transformed, sets[0]):
                    transformed = judged(run, attack_transformed(run, settings, transform))
                sets.append(transformed)
                advance(1)
        scored = Scored.of(run, sets[0].records, settings.plan.clean)
        oracle = oracle_for(run)
        calibration = (str(oracle.calibration),) if oracle else ()
        return partial(self._report, run, settings, sets, scored, calibration)

    def _worth_attacking(self, transformed: TransformedSet, base: TransformedSet) -> bool:
        """Return whether an attack on the images can say something."""
        decidable = self.unshown or enough(transformed.accuracy.n, self._limits)
        return decidable and transformed.cost(base).low <= self.harmless

    def _report(
        self,
        run: Run,
        settings: Settings,
        attacked: Sequence[TransformedSet],
        scored: Scored | None,
        calibration: tuple[str, ...],
        ledger: Ledger,
    ) -> Finding:
        claim = run.claim
        sets = [replace(each.with_ledger(ledger), limits=self._limits) for each in attacked]
        base, *others = sets
        harmless = [each for each in others if each.is_harmless(base) and each.is_valid]
        drops = dict(zip(map(id, harmless), falls(base, harmless), strict=True))
        worst = max(harmless, key=_success, default=base)
        (alpha, beta), (kind, amount) = alpha_beta(worst.transform), _change(worst)
        rows = one_a_class(worst.fooled_records())
        tinted = " and after tints of one colour channel" if tints(claim.data.shape) else ""
        bars = Bars(
            "grid",
            "Accuracy of the model and success rate of the attack after x' = alpha x + beta on "
            f"[-0.5, 0.5]{tinted}, with 95% intervals. The verdict compares at alpha·eps, which "
            "shrinks the budget with the contrast; success at eps is shown beside it. Contrast "
            "shifts in brackets are not shown to be harmless.",
            table="grid",
            label="label",
            series={
                "accuracy": "accuracy",
                "success at eps": "success_eps",
                "success at alpha·eps": "success_alpha_eps",
            },
            y_label="rate",
        )
        examples = gallery(
            "worst",
            f"Test images; the same images after the {kind} ({amount}), which the model still "
            "classifies correctly; and adversarial images near those.",
            rows,
            "still correct",
            claim.threat.norm,
            claim.data.classes,
        )
        return Finding(
            probe="blindspots",
            question=self.question,
            verdict=verdict(base, harmless),
            rule=self._limits.rule,
            headline=_headline(base, others, worst),
            numbers={
                "worst_alpha": alpha,
                "worst_beta": beta,
                **columns("worst_accuracy", worst.accuracy),
                **columns("worst_success_eps", worst.success),
                **columns("worst_success_alpha_eps", worst.success_scaled),
                **columns("base_accuracy", base.accuracy),
                **columns("base_success_eps", base.success),
                **columns("fall", drops.get(id(worst), UNDEFINED)),
                "harmless": len(harmless),
            },
            tables={
                "grid": [_row(each, base, drops.get(id(each), UNDEFINED), scored) for each in sets]
            },
            figures=(bars, examples) if len(rows) else (bars,),
            notes=(
                f"Audit attack: {settings.attack}. After a contrast shift it leaves an image once "
                "its perturbation is below alpha·eps; on the test set itself it looks for the "
                "smallest perturbation of each image. Attacks of other probes on the same images "
                "count too, most of them on the test set itself. Success rates are over the images "
                "that are classified correctly after the contrast shift; one that is shown to be "
                "harmful is not attacked.",
                f"Accuracy is over {base.accuracy.n:,} test images, attacked or not. The fall of "
                "robust accuracy, in the table, is that of the same images from eps to alpha·eps; "
                "its intervals hold for all harmless contrast shifts at once.",
                *([] if scored is None else [scored.note]),
                *validity(worst, calibration),
            ),
            images={"worst": worst.images(run, rows)} if len(rows) else {},
            worst=worst_rate(worst.success_scaled, f"{OF_CORRECT} are fooled after {worst.name}"),
        )


def _row(each: TransformedSet, base: TransformedSet, fall: Estimate, scored: Scored | None) -> Row:
    row, price = each.row(), each.cost(base)
    harmless = each is base or each.is_harmless(base)
    label = row["contrast_shift"]
    return {"label": label if harmless else f"({label})", **row} | {
        **columns("cost", price),
        **columns("rejected", each.rejected),
        "harmless": harmless,
        **columns("fall", fall),
        **({} if scored is None else columns("test_set_success_alpha_eps", each.on_all(scored))),
    }


def _success(each: TransformedSet) -> tuple[float, float]:
    return each.success_scaled.value, each.success.value


def validity(each: TransformedSet, calibration: tuple[str, ...]) -> tuple[str, ...]:
    """Return the note on images that the oracle rejects after a transform."""
    if each.judged is None:
        return ()
    rejected = each.rejected
    return (
        f"After {each.name} the validity oracle rejects {rejected.value:.1%} of "
        f"{counted(rejected.n, 'image')} ({rejected.low:.1%}–{rejected.high:.1%}) that it did not "
        "reject before; attack success is over the others.",
        *calibration,
    )


def none_valid(kind: str) -> str:
    """Return the headline if the oracle rejects the images after all harmless transforms."""
    return (
        f"No harmless {kind} counts: after each, the validity oracle rejects more than "
        f"{REJECTED:.0%} of the images."
    )


def none_harmless(kind: str, n: int, limits: Limits = LIMITS) -> str:
    """Return the headline if no transform is shown to be harmless on n test images."""
    reason = "" if enough(n, limits) else f"; {counted(n, 'test image')} are too few to show it"
    return (
        f"No {kind} is shown to be harmless: for each, the 95% interval allows that it costs more "
        f"than {points(limits.harmless)} of accuracy{reason}."
    )


def _headline(base: TransformedSet, others: list[TransformedSet], worst: TransformedSet) -> str:
    if base.success.n == 0:
        return NOTHING_TO_ATTACK
    if base.success.low > base.limits.broken:
        return (
            "The claim is broken on the test set itself, so that a contrast shift cannot void it: "
            f"attacks fool {correct(base.success)} without one."
        )
    if worst is base and any(each.is_harmless(base) for each in others):
        return none_valid("contrast shift of the grid")
    if worst is base:
        return none_harmless("contrast shift of the grid", base.accuracy.n, base.limits)
    kind, amount = _change(worst)
    return (
        f"After a harmless {kind} ({amount}; accuracy {worst.accuracy.value:.1%}) "
        f"{rise(base, worst)}."
    )


def _change(worst: TransformedSet) -> tuple[str, str]:
    """Return what was changed and how much, such as "contrast shift", "alpha 0.9, beta 0.05"."""
    if worst.transform is None or isinstance(worst.transform, ScaleShift):
        alpha, beta = alpha_beta(worst.transform)
        return "contrast shift", f"alpha {alpha:g}, beta {beta:g}"
    kind, _, amount = worst.name.partition(" ")
    return kind, amount


def rise(base: TransformedSet, worst: TransformedSet) -> str:
    """Return how the success rate changes from the test set itself to a transformed set."""
    before, after = base.success.value, worst.success_scaled.value
    verb = "rises" if after > before else "falls" if after < before else "stays"
    scaled = (
        f" at the scaled budget alpha·eps ({worst.success.value:.1%} at eps)"
        if worst.contrast < 1
        else " at eps"
    )
    change = f"at {after:.1%}" if verb == "stays" else f"from {before:.1%} to {after:.1%}"
    return f"the attack success rate {verb} {change} {OF_CORRECT}{scaled}"
