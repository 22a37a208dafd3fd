"""Test images after a transform, attacked: what the blind-spot probes and certificates compare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
import torch

from scotoma.attacks.strong import SEARCHES
from scotoma.data.dataset import class_name
from scotoma.execution import records as rec
from scotoma.execution.run import Attack, Run, Transform, describe, name
from scotoma.probes.base import Settings, columns, sized
from scotoma.probes.blindspots.definition import HARMLESS, LIMITS, REJECTED, SCREENED, Limits
from scotoma.probes.scored import Scored
from scotoma.results.finding import Gallery, Row
from scotoma.results.ledger import Ledger
from scotoma.threat import Threat
from scotoma.transforms.control import Control, contrast
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.progress import Advance
from scotoma.utils.stats import Estimate, Rate, paired_difference, rate
from scotoma.validity import oracle_for

NOTHING = np.zeros(0, bool)
SCREEN = 1000
"""Test images on which the accuracy of a cell of a search is estimated."""
SHOWN = 6
"""Number of adversarial images in a gallery."""


def contrast_shift(alpha: float, beta: float) -> ScaleShift | None:
    """Return the transform for (alpha, beta); None for (1, 0), the test set itself.

    >>> contrast_shift(0.9, 0.05)
    ScaleShift(alpha=0.9, beta=0.05)
    """
    return None if (alpha, beta) == (1.0, 0.0) else ScaleShift(alpha, beta)


def alpha_beta(transform: Transform | None) -> tuple[float, float]:
    """Return (alpha, beta) of a contrast shift; (1, 0) for any other transform."""
    shift = isinstance(transform, ScaleShift)
    return (transform.alpha, transform.beta) if shift else (1.0, 0.0)


def keeps_accuracy(accuracy: float, base: float) -> bool:
    """Return whether `accuracy` is at most one point below `base`.

    >>> keeps_accuracy(0.95, base=0.96), keeps_accuracy(0.94, base=0.96)
    (True, False)
    """
    return accuracy >= base - HARMLESS - 1e-9  # in binary, 0.96 - 0.01 is more than 0.95


@dataclass(frozen=True)
class TransformedSet:
    """Test images after a transform, and the records of an attack on them or of all attacks.

    alpha is the contrast that the transform leaves (`contrast`), so alpha·eps is the scaled budget.
    Success rates are over the images that are classified correctly after the transform.

    Args:
        transform: from images to images; None for the test set itself.
        records: those of an attack (`records.measure`), rows of a ledger (`with_ledger`), or none.
        threat: norm and eps of the claim.
        change: mean absolute change of a pixel.
        predictions: `index`, `label` and `prediction` of the images over which accuracy is taken,
            audited or not; None for those of `records`.
        judged: `index` and `valid` of the images; an image is not valid if the validity oracle
            rejects it only after the transform. Success is over valid ones. None where nothing was
            judged.
        limits: what a harmless transform may cost, and what makes one a blind spot.
    """

    transform: Transform | None
    records: pl.DataFrame
    threat: Threat
    change: float = 0.0
    predictions: pl.DataFrame | None = None
    judged: pl.DataFrame | None = None
    limits: Limits = LIMITS

    @property
    def eps(self) -> float:
        return self.threat.eps

    @property
    def contrast(self) -> float:
        return contrast(self.transform)

    @property
    def scaled_eps(self) -> float:
        return self.contrast * self.eps

    @property
    def name(self) -> str:
        """The transform in words."""
        return str(self.transform or "the test set itself")

    @cached_property
    def accuracy(self) -> Rate:
        return rate(self._classified["correct"].to_numpy())

    @property
    def _classified(self) -> pl.DataFrame:
        """`index`, and whether the prediction is `correct`."""
        frame = self.records if self.predictions is None else self.predictions
        return frame.select("index", correct=pl.col("prediction") == pl.col("label"))

    @cached_property
    def valid_records(self) -> pl.DataFrame:
        """The records of valid images."""
        if self.judged is None:
            return self.records
        return self.records.join(self.judged.filter("valid"), on="index", how="semi")

    @cached_property
    def rejected(self) -> Rate:
        """Share of the images that the validity oracle rejects only after the transform."""
        return rate(~self.judged["valid"].to_numpy() if self.judged is not None else NOTHING)

    @property
    def is_valid(self) -> bool:
        """Whether no interval shows that the oracle, if there is one, rejects more than a few."""
        return self.judged is None or self.rejected.low <= REJECTED

    @cached_property
    def success(self) -> Rate:
        """Attack success rate at eps."""
        return self._success(self.eps)

    @cached_property
    def success_scaled(self) -> Rate:
        """Attack success rate at alpha·eps."""
        return self._success(self.scaled_eps)

    @cached_property
    def robust(self) -> Rate:
        """Robust accuracy at eps, over all images."""
        return self._robust(self.eps)

    @cached_property
    def robust_scaled(self) -> Rate:
        """Robust accuracy at alpha·eps, over all images."""
        return self._robust(self.scaled_eps)

    def _success(self, size: float) -> Rate:
        return rate(rec.successes(self.valid_records, size, self.threat.norm))

    def _robust(self, size: float) -> Rate:
        return rate(rec.beyond(self.valid_records[self.threat.norm].to_numpy(), size))

    def fooled(self, size: float) -> np.ndarray:
        """Return which of the valid images a perturbation of this size fools, bool (n,)."""
        return rec.fallen(self.valid_records, size, self.threat.norm)

    @property
    def fooled_scaled(self) -> np.ndarray:
        """Which of the correctly classified images are fooled at alpha·eps, bool."""
        return rec.successes(self.valid_records, self.scaled_eps, self.threat.norm)

    def on_all(self, scored: Scored) -> Rate:
        """Return the success rate at alpha·eps of the whole test set; `n` images were attacked."""
        correct = self._classified.filter("correct")["index"].to_numpy()
        index, fooled = self.valid_records["index"].to_numpy(), self.fooled(self.scaled_eps)
        return scored.outcomes(index, fooled, correct).success()

    def withstanding(self, size: float) -> dict[int, bool]:
        """Return for each valid image whether it is correct under every attack of this size."""
        withstands = rec.beyond(self.valid_records[self.threat.norm].to_numpy(), size)
        return dict(zip(self.valid_records["index"].to_list(), withstands.tolist(), strict=True))

    def cost(self, base: TransformedSet) -> Estimate:
        """Return the accuracy that the transform costs, over the images of both."""
        shared = base._classified.join(self._classified, on="index", suffix="_after")
        return paired_difference(shared["correct"].to_numpy(), shared["correct_after"].to_numpy())

    def is_harmless(self, base: TransformedSet) -> bool:
        """Return whether the interval says that the transform costs little enough."""
        return self.success.n > 0 and self.cost(base).high <= self.limits.harmless

    def seems_harmless(self, base: TransformedSet) -> bool:
        """Return whether the transform costs little enough by the estimate alone."""
        return self.success.n > 0 and self.cost(base).value <= self.limits.harmless

    def row(self) -> Row:
        """Return (alpha, beta), accuracy and success rates as a row of a table."""
        alpha, beta = alpha_beta(self.transform)
        shifted = self.transform is None or isinstance(self.transform, ScaleShift)
        return {
            "contrast_shift": f"{alpha:g}, {beta:g}" if shifted else self.name,
            "alpha": alpha,
            "beta": beta,
            "n": self.accuracy.n,
            **columns("accuracy", self.accuracy),
            "attacked": self.success.n,
            **columns("success_eps", self.success),
            **columns("success_alpha_eps", self.success_scaled),
        }

    def with_ledger(self, ledger: Ledger) -> TransformedSet:
        """Return the set with the smallest perturbations that any attack of the audit gave."""
        return replace(self, records=ledger.rows(name(self.transform)))

    def fooled_records(self) -> pl.DataFrame:
        """Return the records of images fooled at alpha·eps, or at eps if there is none."""
        valid = self.valid_records
        scaled = valid.filter(self.fooled(self.scaled_eps))
        return (scaled if len(scaled) else valid.filter(self.fooled(self.eps))).sort("index")

    def images(self, run: Run, rows: pl.DataFrame) -> np.ndarray:
        """Return original, transformed and adversarial images of rows of a ledger.

        They have shape (n, 3, c, h, w).
        """
        attacks = rows[f"{self.threat.norm}_attack"].to_list()
        return np.stack(run.examples(attacks, self.transform, rows["index"].to_list()), axis=1)


def one_a_class(records: pl.DataFrame, n: int = SHOWN) -> pl.DataFrame:
    """Return the first n records, in rounds that take one of each class."""
    ordered = records.sort("index").with_columns(nth=pl.int_range(pl.len()).over("label"))
    return ordered.sort("nth", "label", "index").head(n)


def gallery(
    name: str,
    caption: str,
    records: pl.DataFrame,
    middle: str,
    norm: str,
    classes: Sequence[str],
) -> Gallery:
    """Describe original, transformed and adversarial images, a row for each record."""
    captions = []
    for row in records.iter_rows(named=True):
        prediction = class_name(classes, row[f"{norm}_prediction"])
        end = f"classified as {prediction}, {sized(row, norm)}"
        captions.append([class_name(classes, row["label"]), middle, end])
    columns = ["original", "transformed", "adversarial"]
    return Gallery(name, caption, name, columns, captions, adversarial=True)


def attack_transformed(run: Run, settings: Settings, transform: Transform | None) -> TransformedSet:
    """Attack the images of a run after a transform with the audit attack.

    After a transform, the attack leaves an image once its perturbation is below alpha·eps. On the
    test set itself it runs to the end, so that other probes share its records.
    """
    threat = run.claim.threat
    until = contrast(transform) * threat.eps if transform else 0.0
    return classified(run, _attack(run, settings.make_attack(threat, until=until), transform))


def untouched(run: Run, transform: Transform | None) -> TransformedSet:
    """Return the images of a run after a transform before any attack."""
    return TransformedSet(transform, pl.DataFrame(), run.claim.threat)


def _attack(run: Run, attack: Attack, transform: Transform | None) -> TransformedSet:
    transformed = untouched(run, transform)
    return replace(transformed, records=run.attack(attack, transform, what=f"  {transformed.name}"))


def classified(run: Run, transformed: TransformedSet, most: int | None = None) -> TransformedSet:
    """Return the set with its accuracy over the whole test set, one pass an image.

    At most `most` images are classified, by default `SCREENED` times the audited ones.
    """
    most = SCREENED * len(run.indices) if most is None else most
    return replace(transformed, predictions=run.predictions(transformed.transform, most))


def judged(run: Run, transformed: TransformedSet) -> TransformedSet:
    """Return the set with the validity of its images, if there is an oracle for the data.

    An image that the oracle rejects unchanged stays valid: it cannot say what a change does to it.
    """
    if transformed.transform is None or (oracle := oracle_for(run)) is None:
        return transformed

    def accepted(transform: Transform | None) -> pl.DataFrame:
        def compute() -> pl.DataFrame:
            flags, test = [], run.claim.data.test
            for indices in run.indices.split(run.batch_size):
                images = test.images(indices)
                images = transform(images) if transform else images
                flags.append(oracle.judge(images, test.labels[indices]).valid)
            return pl.DataFrame({"index": run.indices.numpy(), "valid": torch.cat(flags).numpy()})

        what = describe(transform) if transform else None
        return run.table("valid", {"transform": what}, compute)

    before, after = accepted(None)["valid"], accepted(transformed.transform)
    return replace(transformed, judged=after.with_columns(valid=pl.col("valid") | ~before))


@dataclass(frozen=True)
class Scout:
    """Attack transformed images, either cheaply or with the audit attack.

    Args:
        run: whose images and model.
        settings: which hold the audit attack.
        steps: gradient steps of the cheap attack.
    """

    run: Run
    settings: Settings
    steps: int

    def cheap(self, transform: Transform | None, advance: Advance) -> TransformedSet:
        """Run one short minimum-norm search, which leaves an image at alpha·eps."""
        threat = self.run.claim.threat
        until = contrast(transform) * threat.eps
        search = SEARCHES[threat.norm](threat.norm, steps=self.steps, restarts=0, until=until)
        attacked = _attack(self.run, search, transform)
        advance(1)
        attacked = classified(self.run, attacked, SCREEN)
        return replace(attacked, change=self._change(transform))

    def sweep(self, transforms: Sequence[Transform | None], what: str) -> list[TransformedSet]:
        """Attack the images after each transform cheaply; `what` names the work."""
        with self.run.progress.bar(what, len(transforms)) as advance:
            return [self.cheap(each, advance) for each in transforms]

    def worst(
        self, sets: Iterable[TransformedSet], base: TransformedSet, ordered: bool = False
    ) -> TransformedSet | None:
        """Return the harmless transform with the lowest robust accuracy at alpha·eps, or None.

        Ties go to the first transform if they are `ordered`, else to the one that changes the
        images least. From the worst on, each is classified on the whole test set until one is
        harmless and its images are valid. Transforms that a few images already show to be harmful
        are skipped.
        """
        candidates = [s for s in sets if s.transform and s.cost(base).low <= base.limits.harmless]
        candidates.sort(key=lambda s: (s.robust_scaled.value, 0 if ordered else s.change))
        for each in candidates:
            screened = classified(self.run, each)
            if screened.is_harmless(base) and judged(self.run, screened).is_valid:
                return screened
        return None

    def strong(self, transform: Transform | None) -> TransformedSet:
        """Run the audit attack, and judge the validity of the images unless they are a control."""
        attacked = attack_transformed(self.run, self.settings, transform)
        if not isinstance(transform, Control):
            attacked = judged(self.run, attacked)
        return replace(attacked, change=self._change(transform))

    def _change(self, transform: Transform | None) -> float:
        """Return the mean absolute change of a pixel over the audited images."""
        if transform is None:
            return 0.0
        total = torch.zeros((), dtype=torch.float64)
        for indices in self.run.indices.split(self.run.batch_size):
            images = self.run.claim.data.test.images(indices)
            total += (transform(images) - images).abs().flatten(1).mean(1).double().sum()
        return float(total) / len(self.run.indices)
