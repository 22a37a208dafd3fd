"""How robust is the model, at every perturbation size?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import polars as pl

from scotoma.attacks.adaptive.plan import CLEAN, Plan
from scotoma.claim import Claim
from scotoma.data.dataset import class_name
from scotoma.execution import records as rec
from scotoma.execution.run import Run
from scotoma.models.black_box import is_black_box
from scotoma.probes.base import (
    OF_CORRECT,
    Conclusion,
    Probe,
    Settings,
    as_picture,
    check_order,
    columns,
    correct,
    evenly,
    sized,
    sized_threat,
    worst_rate,
)
from scotoma.probes.robustness.verdict import BROKEN, HOLDS, NOTHING_TO_ATTACK, rule, verdict
from scotoma.probes.robustness.whole import WholeSet, exactly, further, whole_set
from scotoma.probes.scored import Scored
from scotoma.results.attack_names import short_name
from scotoma.results.finding import Bars, Curve, Finding, Gallery, Verdict
from scotoma.results.ledger import Ledger
from scotoma.results.stated import RULE as STATED
from scotoma.results.stated import UNSTATED, Judgement, Measure, judge, overall, unattacked
from scotoma.results.verdicts import circumvented
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.stats import Rate, finite, rate
from scotoma.utils.text import counted, norm_name

SAMPLING = ("stratified", "uniform")
POINTS = 60
SHOWN = 6


@dataclass(frozen=True)
class Robustness(Probe):
    """Measure accuracy against perturbation size, from the smallest perturbation of each image.

    If the claim states numbers, they decide the verdict in place of the thresholds; without a
    robust accuracy at its own threat among them the verdict is the worse of both.

    The rates are those of the whole test set where images were left out and it pays to classify all
    (`whole.WholeSet`), else those of the audited images.

    Args:
        holds: the claim holds if the interval of the success rate lies below.
        broken: it is broken if the interval lies above.
        precision: half of the width of the interval of the robust accuracy on the whole test set;
            images beside the audited ones are attacked to reach it. None attacks no others.
        sampling: "stratified", or "uniform" for the rates of the audited images alone.

    >>> verdict(rate(np.zeros(100, bool)))
    'holds'
    """

    holds: float = HOLDS
    broken: float = BROKEN
    precision: float | None = None
    sampling: str = SAMPLING[0]

    thresholds = ("holds", "broken")
    question = "How robust is the model, at every perturbation size?"

    def __post_init__(self) -> None:
        check_order(self.holds, self.broken)
        if self.sampling not in SAMPLING:
            raise InputError(f"sampling={self.sampling!r}: want {' or '.join(SAMPLING)}")
        if self.precision is None:
            return
        number = isinstance(self.precision, int | float)
        if not number or not 0 < self.precision < 0.5:
            raise InputError(f"precision={self.precision!r}: want a share between 0 and 0.5")
        if self.sampling == "uniform":
            raise InputError("precision: uniform sampling has no precision; choose a limit instead")

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Conclusion:
        attack = settings.make_attack(claim.threat)
        records = run.attack(attack, what="robustness")
        test = None
        if self.sampling == "stratified":
            required = self.precision is not None
            scored = Scored.of(run, records, settings.plan.clean, whatever_it_costs=required)
            if scored is not None:
                additional = further(scored, run, attack, records, self.precision)
                test = partial(whole_set, scored, additional, run)
        plain = None
        if not settings.plan.clean and not is_black_box(claim.model.module):
            exact = replace(settings, plan=CLEAN).make_attack(claim.threat)
            plain = run.attack(exact, what="robustness by plain attacks")
        return partial(self._report, run, settings, records, plain, test)

    def _report(
        self,
        run: Run,
        settings: Settings,
        adapted: pl.DataFrame,
        plain: pl.DataFrame | None,
        estimate: Callable[[Ledger], WholeSet] | None,
        ledger: Ledger,
    ) -> Finding:
        """Return the finding from the ledger and the records of the audit attack.

        `adapted` has those of the attack as adapted to the model, `plain` those of the attack as it
        would be on a model whose gradients lead attacks.
        """
        claim, test = run.claim, None if estimate is None else estimate(ledger)
        norm, eps = claim.threat.norm, claim.threat.eps
        records = ledger.rows()
        clean = rate(rec.is_correct(records))
        success = rate(rec.successes(records, eps, norm))
        distances = records[norm].to_numpy()
        robust = rate(rec.beyond(distances, eps))
        plain_robust = rate(rec.beyond((adapted if plain is None else plain)[norm].to_numpy(), eps))
        median = float(np.quantile(distances, 0.5, method="lower"))
        judgements = self._judgements(claim, run, records, test)
        decisive = success if test is None else test.success()
        usual, decides = self._decided(claim, judgements, decisive)
        examples = self._spread(records, claim.threat)
        attacks = self._attacks(records, claim.threat)
        return Finding(
            probe="robustness",
            question=self.question,
            verdict=usual,
            rule=decides,
            headline=" ".join(
                [
                    self._headline(claim, clean, robust, success, len(attacks))
                    if test is None
                    else on_all(claim.threat, test),
                    *([] if plain is None else [hidden_from(plain_robust)]),
                    *map(str, judgements),
                ]
            ),
            numbers={
                **columns("clean_accuracy", clean),
                **columns("robust_accuracy", robust),
                **columns("attack_success", success),
                **columns("audit_attack_success", rate(rec.successes(adapted, eps, norm))),
                **({} if plain is None else columns("plain_robust_accuracy", plain_robust)),
                **(
                    {}
                    if plain is None
                    else self._circumvented(claim.threat, success, adapted, plain)
                ),
                **({} if test is None else test.numbers()),
                f"median_{norm}": finite(median),
                "n": clean.n,
                "forwards_per_image": _mean(adapted["forwards"]),
                "backwards_per_image": _mean(adapted["backwards"]),
            },
            tables={
                "curve": self._curve(distances, claim.threat),
                **({} if test is None else {"strata": test.outcomes.rows()}),
                **({"stated": [each.row for each in judgements]} if judgements else {}),
                **({"attacks": attacks} if attacks else {}),
            },
            figures=(
                Curve(
                    "curve",
                    f"Share of the {clean.n:,} audited images that are classified correctly under "
                    f"every perturbation found, against its {norm_name(norm)} size; the band is "
                    "the 95% interval. Attacks give an upper bound: the true share can only be "
                    "lower.",
                    table="curve",
                    x="eps",
                    y="robust_accuracy",
                    interval=True,
                    x_label=f"{norm_name(norm)} perturbation size",
                    y_label="robust accuracy",
                    marks={"claimed eps": eps},
                ),
                *([] if test is None else [strata_figure(test)]),
                *([self._gallery(examples, norm, claim.data.classes)] if len(examples) else []),
            ),
            notes=(
                *([] if test is None else [test.scored.note]),
                *([] if settings.plan.clean else [plan_note(settings.plan)]),
                *([f"Stated numbers: {claim.stated.source}."] if claim.stated.source else []),
                f"Audit attack: {settings.attack}; audit attack success and passes per image are "
                "its own. All other numbers are over all attacks of this audit: each image counts "
                "with the smallest perturbation that any of them gave. The table of attacks says "
                "how often each gave it (of equal ones, the first by name). Every adversarial "
                "image was evaluated again in float32 outside the attack. Medians count a clean "
                "error as 0 and an image without an adversarial example as infinite.",
            ),
            worst=worst_rate(
                decisive, f"{OF_CORRECT} are fooled within {sized_threat(claim.threat)}"
            ),
            images={"examples": self._images(run, norm, examples)} if len(examples) else {},
        )

    @staticmethod
    def _judgements(
        claim: Claim, run: Run, records: pl.DataFrame, test: WholeSet | None
    ) -> list[Judgement]:
        """Return the judgement on each number that the claim states, of all test images if known.

        Stated numbers are shares of the test images, so no sampling error is left where all of them
        were attacked.
        """
        threats = [claim.threat, *(threat for threat, _ in claim.stated.also)]
        audited = {
            f"robust accuracy within {threat}": rec.beyond(
                records[threat.norm].to_numpy(), threat.eps
            )
            for threat in threats
        }
        audited["clean accuracy"] = rec.is_correct(records)
        accurate: dict[str, np.ndarray | Measure] = {**audited}
        if len(records) == len(claim.data.test):
            accurate = {name: partial(exactly, flags) for name, flags in audited.items()}
        elif test is not None:
            accurate |= {
                f"robust accuracy within {claim.threat}": test.robust,
                "clean accuracy": lambda of: test.clean,
            }
        numbers = claim.stated.numbers(claim.threat)
        without = {}
        if claim.stated.also:
            names = run.records.filter(transform="none")["attack"].unique().to_list()
            for threat, _ in claim.stated.also:
                if why := unattacked(threat, names):
                    without[f"robust accuracy within {threat}"] = why
        return judge(numbers, accurate, claim.stated.margin, len(claim.data.test), without)

    def _decided(
        self, claim: Claim, judgements: list[Judgement], success: Rate
    ) -> tuple[Verdict, str]:
        """Return the verdict and its rule: stated numbers decide, or the usual rule, or both."""
        usual, decides = verdict(success, self.holds, self.broken), rule(self.holds, self.broken)
        if not judgements:
            return usual, decides
        stated = STATED.format(points=100 * claim.stated.margin)
        if f"robust accuracy within {claim.threat}" in {each.name for each in judgements}:
            return overall(judgements), stated
        worst = overall(judgements, "holds" if usual == "not applicable" else usual)
        return worst, stated + UNSTATED.format(usual=decides)

    @staticmethod
    def _circumvented(
        threat: Threat, success: Rate, adapted: pl.DataFrame, plain: pl.DataFrame
    ) -> dict[str, bool]:
        """Return whether the audit attack got around what hides the gradient."""
        by_image = (records.sort("index") for records in (adapted, plain))
        fooled = (rec.fallen(records, threat.eps, threat.norm) for records in by_image)
        return {"circumvented": circumvented(success, *fooled)}

    @staticmethod
    def _headline(claim: Claim, clean: Rate, robust: Rate, success: Rate, attacks: int) -> str:
        if success.n == 0:
            return NOTHING_TO_ATTACK
        fools = "attacks fool" if attacks > 1 else "attack fools"
        return (
            f"Accuracy on the audited images is {clean.value:.1%} without an attack and at most "
            f"{robust.value:.1%} within {sized_threat(claim.threat)}: the {fools} "
            f"{correct(success)}."
        )

    @staticmethod
    def _attacks(records: pl.DataFrame, threat: Threat) -> list[dict]:
        """Return how often each attack gave the smallest perturbation, the most frequent first."""
        within = rec.fallen(records, threat.eps, threat.norm)
        counts = (
            records.select(pl.col(f"{threat.norm}_attack").alias("attack"), within=within)
            .drop_nulls("attack")
            .with_columns(pl.col("attack").map_elements(short_name, pl.String))
            .group_by("attack")
            .agg(images=pl.len(), within=pl.sum("within"))
            .sort("images", "attack", descending=[True, False])
        )
        total = int(within.sum())
        return [
            {
                "attack": attack,
                "smallest_perturbation_of": images,
                "share_of_the_fooled_within_eps": finite(fooled / total) if total else None,
            }
            for attack, images, fooled in counts.iter_rows()
        ]

    @staticmethod
    def _curve(distances: np.ndarray, threat: Threat) -> list[dict]:
        farthest = 2 * threat.eps
        if threat.norm == "linf":
            farthest = min(1.0, farthest)
        return [
            {"eps": finite(size), **columns("robust_accuracy", rate(rec.beyond(distances, size)))}
            for size in np.linspace(0, farthest, POINTS + 1).tolist()
        ]

    @staticmethod
    def _spread(records: pl.DataFrame, threat: Threat) -> pl.DataFrame:
        """Return a few fooled images, from the smallest perturbation to the largest."""
        fooled = rec.fallen(records, threat.eps, threat.norm)
        examples = records.filter(fooled).sort(threat.norm, "index")
        return examples[evenly(len(examples), SHOWN)]

    @staticmethod
    def _images(run: Run, norm: str, examples: pl.DataFrame) -> np.ndarray:
        attacks = examples[f"{norm}_attack"].to_list()
        original, _, adversarial = run.examples(attacks, None, examples["index"].to_list())
        return np.stack([original, adversarial, as_picture(adversarial - original)], axis=1)

    @staticmethod
    def _gallery(examples: pl.DataFrame, norm: str, classes: Sequence[str]) -> Gallery:
        return Gallery(
            "examples",
            "Test images that are fooled within the claimed eps, from the smallest perturbation to "
            "the largest.",
            images="examples",
            columns=["original", "adversarial", "difference (grey is none; faint ones magnified)"],
            captions=[
                [
                    class_name(classes, row["label"]),
                    f"classified as {class_name(classes, row[f'{norm}_prediction'])}",
                    sized(row, norm),
                ]
                for row in examples.iter_rows(named=True)
            ],
            adversarial=True,
        )


def _mean(passes: pl.Series) -> float | None:
    return finite(float(passes.to_numpy().mean())) if len(passes) else 0.0


def on_all(threat: Threat, test: WholeSet) -> str:
    """Return the headline on the whole test set."""
    robust, success = test.robust(), test.success()
    if not success.n:
        return NOTHING_TO_ATTACK
    return (
        f"Accuracy on all {test.clean.n:,} test images is {test.clean.value:.1%} without an attack "
        f"and at most {robust.value:.1%} ({100 * robust.low:.1f}–{100 * robust.high:.1f}%) within "
        f"{sized_threat(threat)}: the attacks fool "
        f"{correct(success).replace('of correctly', 'of all correctly')}, estimated from "
        f"{success.n:,} attacked."
    )


def strata_figure(test: WholeSet) -> Bars:
    """Return the figure of the strata."""
    return Bars(
        "strata",
        "Success rate at eps among the attacked images of each stratum of the test set, from the "
        "least margin to the largest, with 95% intervals. If a precision is asked for, further "
        "images are attacked where the rate is neither 0 nor 1.",
        table="strata",
        label="stratum",
        series={"success": "success"},
        y_label="success rate",
    )


def hidden_from(robust: Rate) -> str:
    """Return the sentence on what plain attacks would have reported."""
    return (
        f"Attacks that follow the exact gradient alone would report {robust.value:.1%} robust "
        "accuracy."
    )


def plan_note(plan: Plan) -> str:
    """Return the note on how the audit attack adapted, and why."""
    pilot = ", ".join(f"{share:.0%} by {view}" for view, share in plan.pilot)
    images = plan.look.images if plan.look else 0
    return (
        f"{plan} In short attacks on {counted(images, 'image')}, within eps and within 0.4 eps, "
        f"successes were {pilot}."
    )
