"""Does the certificate survive harmless changes of contrast and background?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import polars as pl
import torch
from torch import Tensor

from scotoma.certificates.dual import certified
from scotoma.certificates.layers import Network, read_network
from scotoma.claim import Claim
from scotoma.execution.records import is_correct
from scotoma.execution.run import Run, Transform, describe
from scotoma.probes.base import Conclusion, Probe, Settings, columns
from scotoma.probes.blindspots.definition import LIMITS
from scotoma.probes.blindspots.grid import contrast_shifts
from scotoma.probes.blindspots.probe import none_harmless
from scotoma.probes.blindspots.transformed import (
    TransformedSet,
    alpha_beta,
    attack_transformed,
    contrast_shift,
    gallery,
    one_a_class,
)
from scotoma.results.finding import Bars, Finding, Row, Verdict
from scotoma.results.ledger import Ledger
from scotoma.threat import TOLERANCE
from scotoma.utils.errors import InputError
from scotoma.utils.stats import Rate, rate
from scotoma.utils.text import counted, norm_name

LEFT = 0.5
"""Share of the certified accuracy that a harmless contrast shift has to leave."""
RULE = (
    f"{LIMITS.is_harmless} Broken: under a "
    "harmless contrast shift the 95% interval of certified accuracy at alpha·eps lies below "
    f"{LEFT:.0%} of the certified accuracy at eps on the test set itself, or an attack succeeds "
    "inside a certified ball. Weak: it lies below the interval of the latter. Otherwise it holds. "
    "Undecided: no contrast shift is shown to be harmless. "
    "Not applicable: the bound does not cover the network, or certifies no image of the test set."
)


@dataclass(frozen=True)
class CertifiedSet:
    """A transformed set and its certificates.

    Args:
        attacked: the transformed set, under the audit attack.
        proofs: `index`; `eps` and `alpha_eps` (whether no perturbation of that size changes the
            prediction of the correct label).
    """

    attacked: TransformedSet
    proofs: pl.DataFrame

    @cached_property
    def certified(self) -> Rate:
        """Certified accuracy at eps, over all images."""
        return rate(self.proofs["eps"].to_numpy())

    @cached_property
    def scaled(self) -> Rate:
        """Certified accuracy at alpha·eps, over all images."""
        return rate(self.proofs["alpha_eps"].to_numpy())

    @cached_property
    def contradictions(self) -> int:
        """Number of images on which the attack succeeds inside a certified ball."""
        joined = self.attacked.records.join(self.proofs, on="index")
        sizes = {"eps": self.attacked.eps, "alpha_eps": self.attacked.scaled_eps}
        inside = [
            pl.col(name) & (pl.col("linf") <= size + TOLERANCE) for name, size in sizes.items()
        ]
        return len(joined.filter(pl.any_horizontal(inside)))

    def row(self, base: CertifiedSet) -> Row:
        """Return certified accuracy, robust accuracy and success rates as a row of a table."""
        # accuracy is over as many images as are certified, its cost over the whole test set
        row = replace(self.attacked, predictions=None).row()
        harmless = self is base or self.attacked.is_harmless(base.attacked)
        shift = row["contrast_shift"]
        return {
            "label": shift if harmless else f"({shift})",
            **row,
            **columns("cost", self.attacked.cost(base.attacked)),
            "harmless": harmless,
            **columns("certified_accuracy_eps", self.certified),
            **columns("certified_accuracy_alpha_eps", self.scaled),
            **columns("robust_accuracy_eps", self.attacked.robust),
            **columns("robust_accuracy_alpha_eps", self.attacked.robust_scaled),
            "contradictions": self.contradictions,
        }


class Certificate(Probe):
    """The dual bound of Wong and Kolter (2018), beside the attack, over a grid of contrast shifts.

    The bound is a lower limit of robust accuracy, the attack an upper one. The grid is that of
    Zhang et al. 2019.

    Example:
        >>> Certificate().question
        'Does the certificate survive harmless changes of contrast and background?'
    """

    question = "Does the certificate survive harmless changes of contrast and background?"

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Conclusion:
        norm = claim.threat.norm
        if norm != "linf":
            return self._inapplicable(
                f"The bound is for L-inf perturbations, but the claim is for {norm_name(norm)}."
            )
        try:
            network = read_network(run.model, claim.data.shape)
        except InputError as error:
            return self._inapplicable(f"There is {error}.")
        sets, grid = [], contrast_shifts(claim.data.name, claim.data.shape)
        with run.progress.bar("certificates", len(grid)) as advance:
            for shift in grid:
                sets.append(_certify(run, settings, network, contrast_shift(*shift)))
                advance(1)
        if sets[0].certified.value == 0:
            return self._inapplicable(
                f"The bound certifies none of the {counted(sets[0].certified.n, 'test image')}, so "
                "a transform has nothing to lose."
            )
        return partial(self._report, run, settings, sets)

    def _report(
        self, run: Run, settings: Settings, certified: Sequence[CertifiedSet], ledger: Ledger
    ) -> Finding:
        sets = [replace(each, attacked=each.attacked.with_ledger(ledger)) for each in certified]
        base, *others = sets
        harmless = [each for each in others if each.attacked.is_harmless(base.attacked)]
        worst = min(harmless, key=_remaining, default=base)
        contradictions = sum(each.contradictions for each in sets)
        alpha, beta = alpha_beta(worst.attacked.transform)
        rows = _lost_and_fooled(base, worst)
        bars = Bars(
            "grid",
            "Shares of all test images after x' = alpha x + beta on [-0.5, 0.5], with 95% "
            "intervals: classified correctly; still classified correctly under the attack at "
            "alpha·eps; and certified. Robust accuracy lies between the last two. Contrast shifts "
            "in brackets are not shown to be harmless.",
            table="grid",
            label="label",
            series={
                "accuracy": "accuracy",
                "withstands the attack at alpha·eps": "robust_accuracy_alpha_eps",
                "certified at alpha·eps": "certified_accuracy_alpha_eps",
                "certified at eps": "certified_accuracy_eps",
            },
            y_label="rate",
        )
        examples = gallery(
            "broken",
            "Test images that are certified at eps; the same images after the contrast shift "
            f"(alpha {alpha:g}, beta {beta:g}); and adversarial images within alpha·eps of those. "
            "The certificate was valid only for the original image.",
            rows,
            "still correct",
            "linf",
            run.claim.data.classes,
        )
        return Finding(
            probe="certificate",
            question=self.question,
            verdict="broken" if contradictions else self._verdict(base, harmless),
            rule=RULE,
            headline=_headline(base, worst, contradictions),
            numbers={
                **columns("certified_accuracy", base.certified),
                **columns("accuracy", base.attacked.accuracy),
                **columns("robust_accuracy", base.attacked.robust),
                "worst_alpha": alpha,
                "worst_beta": beta,
                "harmless": len(harmless),
                **columns("worst_certified_accuracy_eps", worst.certified),
                **columns("worst_certified_accuracy_alpha_eps", worst.scaled),
                **columns("worst_robust_accuracy_alpha_eps", worst.attacked.robust_scaled),
                **columns("lost", rate(_lost(base, worst))),
                "contradictions": contradictions,
                "n": base.certified.n,
            },
            tables={"grid": [each.row(base) for each in sets]},
            figures=(bars, examples) if len(rows) else (bars,),
            notes=(
                "Bound: Wong and Kolter 2018, with every layer treated exactly and the ball cut to "
                "[0, 1]. It proves that no perturbation of one image changes its label, which says "
                "nothing about that image with less contrast. An image that is classified wrongly "
                "counts as not certified.",
                f"Audit attack: {settings.attack}, as in the blindspots probe; attacks of other "
                "probes on the same images count too. Success rates are over the images that are "
                "classified correctly after the contrast shift.",
                f"The verdict counts the contrast shifts that are shown to be harmless: "
                f"{len(harmless)} of {len(others)}. What a shift costs of accuracy, in the table, "
                f"is over {counted(base.attacked.accuracy.n, 'test image')}, certified or not.",
            ),
            images={"broken": worst.attacked.images(run, rows)} if len(rows) else {},
        )

    def _inapplicable(self, why: str) -> Conclusion:
        return lambda ledger: Finding("certificate", self.question, "not applicable", RULE, why)

    @staticmethod
    def _verdict(base: CertifiedSet, harmless: list[CertifiedSet]) -> Verdict:
        if not harmless:
            return "undecided"
        if any(each.scaled.high < LEFT * base.certified.value for each in harmless):
            return "broken"
        weak = any(each.scaled.high < base.certified.low for each in harmless)
        return "weak" if weak else "holds"


def _remaining(each: CertifiedSet) -> tuple[float, float]:
    return each.scaled.value, each.attacked.robust_scaled.value


def _certify(
    run: Run, settings: Settings, network: Network, transform: Transform | None
) -> CertifiedSet:
    """Attack the images after a transform, and certify those that are classified correctly."""
    attacked = attack_transformed(run, settings, transform)
    eps, scaled_eps, split = attacked.eps, attacked.scaled_eps, run.claim.data.test
    correct = torch.from_numpy(is_correct(attacked.records))

    def prove(indices: Tensor) -> np.ndarray:
        images = split.images(indices)
        images = (transform(images) if transform else images).to(run.device)
        labels = split.labels[indices].to(run.device)
        proofs = certified(network, images, labels, eps).repeat(2, 1)
        unproven = ~proofs[0]  # a proof at eps is one at every smaller size
        if transform and unproven.any():
            proofs[1, unproven] = certified(network, images[unproven], labels[unproven], scaled_eps)
        return proofs.cpu().numpy()

    def compute() -> pl.DataFrame:
        proofs = np.zeros((2, len(correct)), dtype=bool)
        positions = correct.nonzero().squeeze(1)
        with run.progress.bar(f"  {attacked.name}: certifying", len(positions)) as advance:
            for batch in positions.split(run.batch_size):
                proofs[:, batch.numpy()] = prove(run.indices[batch])
                advance(len(batch))
        index = run.indices.numpy()
        return pl.DataFrame({"index": index, "eps": proofs[0], "alpha_eps": proofs[1]})

    config = {
        "bound": "dual",
        "transform": describe(transform) if transform else None,
        "sizes": [eps, scaled_eps],
    }
    proofs = run.table("certificates", config, compute)
    radius = pl.when("eps").then(eps).when("alpha_eps").then(scaled_eps).otherwise(0.0)
    run.certify(proofs.with_columns(radius=radius), "linf", transform)
    return CertifiedSet(attacked, proofs)


def _headline(base: CertifiedSet, worst: CertifiedSet, contradictions: int) -> str:
    if contradictions:
        return (
            "THE CERTIFICATE IS WRONG: the attack succeeds inside a certified ball on "
            f"{counted(contradictions, 'image')}. Either the bound or the measurement has a fault; "
            "trust neither, and report it."
        )
    text = f"At eps, {base.certified} of the test images are certified"
    if worst is base:
        n = base.attacked.accuracy.n
        return f"{text}. {none_harmless('contrast shift of the grid', n)}"
    alpha, beta = alpha_beta(worst.attacked.transform)
    return (
        f"{text}. After a harmless contrast shift (alpha {alpha:g}, beta {beta:g}; accuracy "
        f"{worst.attacked.accuracy.value:.1%}) {worst.scaled.value:.1%} are at the scaled budget "
        f"alpha·eps and {worst.certified.value:.1%} at eps, and the attack succeeds at alpha·eps "
        f"on {worst.attacked.success_scaled.value:.1%} of the images classified correctly."
    )


def _lost(base: CertifiedSet, worst: CertifiedSet) -> np.ndarray:
    """Return which of the originally certified images are not certified after the transform."""
    return ~worst.proofs.filter(base.proofs["eps"])["alpha_eps"].to_numpy()


def _lost_and_fooled(base: CertifiedSet, worst: CertifiedSet) -> pl.DataFrame:
    """Return a few records of images certified before the transform and broken after it."""
    fooled = worst.attacked.fooled(worst.attacked.scaled_eps)
    return one_a_class(worst.attacked.records.filter(base.proofs["eps"].to_numpy() & fooled))
