"""Robustness on the whole test set: all images classified, those attacked that tell most."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from torch import Tensor

from scotoma.attacks.core.losses import margin
from scotoma.attacks.single_step import FGSM
from scotoma.execution import records as rec
from scotoma.execution.batching import Attack
from scotoma.execution.records import verified_logits
from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled
from scotoma.metrics.stratified import FEWEST, draws_for, joined, strata_of, stratified_rate
from scotoma.models.classifier import is_randomised
from scotoma.probes.base import columns
from scotoma.results.finding import Row
from scotoma.results.ledger import Ledger
from scotoma.utils.random import Randomness
from scotoma.utils.stats import Rate, rate

PASSES = 4
"""Passes of each test image to score it: prediction, gradient (two), and the stepped image."""
DEAREST = 0.5
"""Largest cost of scoring all images, as a share of what the audit attack has taken."""


@dataclass(frozen=True)
class WholeSet:
    """All test images by their score, and which of them the audit attack was run on.

    Args:
        scored: `index`, `label`, `prediction` and `score` of every test image: the margin after one
            step of size eps, or before it where gradients are of no use.
        attacked: `index` and `fooled` (at eps) of the images drawn beside the audited ones.
        stepped: whether the score is the margin after a step.
    """

    scored: pl.DataFrame
    attacked: pl.DataFrame
    stepped: bool

    @classmethod
    def of(
        cls, run: Run, attack: Attack, own: pl.DataFrame, precision: float | None, clean: bool
    ) -> WholeSet | None:
        """Score the test set, and attack more of it until the interval is as narrow as asked for.

        Args:
            run: on the audited images.
            attack: the audit attack.
            own: its records of these images.
            precision: half of the width of the interval of the robust accuracy, or None.
            clean: whether the gradient leads attacks (`Plan.clean`), so that one step says much.

        Returns:
            None where all images were audited, the model is randomised, or scoring all would cost
            too much beside the attack and no precision is asked for.
        """
        total = len(run.claim.data.test)
        spent = float(own.select(pl.sum("forwards") + pl.sum("backwards")).item())
        if len(run.indices) == total or is_randomised(run.claim.model.module):
            return None
        if precision is None and PASSES * total > DEAREST * spent:
            return None
        whole = cls(
            _scored(run, clean),
            pl.DataFrame(schema={"index": pl.Int64, "fooled": pl.Boolean}),
            clean,
        )
        if precision is None:
            return whole
        more = whole.wanted(run, own, precision)
        if not len(more):
            return whole
        records = run.subset(more).attack(attack, what="images that tell most")
        threat = run.claim.threat
        fooled = pl.Series("fooled", rec.fallen(records, threat.eps, threat.norm))
        return replace(whole, attacked=records.select("index").with_columns(fooled))

    @property
    def correct(self) -> np.ndarray:
        """Which images are classified correctly, bool (n,)."""
        return (self.scored["prediction"] == self.scored["label"]).to_numpy()

    @property
    def stratum(self) -> np.ndarray:
        """Strata of the images classified correctly, int."""
        return strata_of(self.scored["score"].to_numpy()[self.correct])

    def wanted(self, run: Run, own: pl.DataFrame, precision: float) -> Tensor:
        """Return the images to attack beside the audited ones, int64, as the seed orders them."""
        threat, stratum = run.claim.threat, self.stratum
        drawn, hits = self._outcomes(own, rec.fallen(own, threat.eps, threat.norm))
        sizes = np.bincount(stratum)
        seen, found = (np.bincount(stratum[each], minlength=len(sizes)) for each in (drawn, hits))
        # precision is that of robust accuracy, in which only correct images can be lost
        share = len(stratum) / len(self.scored)
        more = draws_for(sizes, seen, found, precision / share)
        more = np.maximum(more, np.minimum(sizes, FEWEST) - seen)
        place = np.argsort(shuffled(len(self.scored), run.seed).numpy())[self.correct]
        index = self.scored["index"].to_numpy()[self.correct]
        chosen: list[np.ndarray] = []
        for number, count in enumerate(more):
            open_ = np.flatnonzero((stratum == number) & ~drawn)
            chosen.append(index[open_[np.argsort(place[open_])[: max(count, 0)]]])
        return torch.from_numpy(np.sort(np.concatenate(chosen)))

    def _outcomes(self, records: pl.DataFrame, fooled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which correct images were attacked, and which fooled, bool (images correct,)."""
        known = dict(zip(records["index"].to_list(), fooled.tolist(), strict=True))
        known |= dict(self.attacked.iter_rows())
        index = self.scored["index"].to_numpy()[self.correct].tolist()
        drawn = np.array([each in known for each in index], bool)
        return drawn, np.array([known.get(each, False) for each in index], bool)

    def measured(self, run: Run, ledger: Ledger) -> Measured:
        """Return the rates of the whole test set, with what all attacks found on audited images."""
        rows, threat = ledger.rows(), run.claim.threat
        drawn, hits = self._outcomes(rows, rec.fallen(rows, threat.eps, threat.norm))
        return Measured(joined(self.stratum, drawn), drawn, hits, rate(self.correct), self.stepped)


@dataclass(frozen=True)
class Measured:
    """Outcomes of the whole test set; arrays are over the images classified correctly.

    Args:
        stratum: int (n,).
        drawn: whether an image was attacked, bool (n,).
        hits: whether it was fooled at eps, bool (n,).
        clean: accuracy on the whole test set.
        stepped: as in `WholeSet`.
    """

    stratum: np.ndarray
    drawn: np.ndarray
    hits: np.ndarray
    clean: Rate
    stepped: bool

    def success(self, of: int = 1) -> Rate:
        """Return the share of correctly classified images that are fooled; `n` were attacked."""
        return stratified_rate(*self._counts(), of)

    def robust(self, of: int = 1) -> Rate:
        """Return the robust accuracy of the whole test set; `n` images were attacked."""
        lost, share = self.success(of), self.clean.value
        if not lost.n:
            return Rate(share, share, share, 0)
        value, low, high = (share * (1 - each) for each in (lost.value, lost.high, lost.low))
        return Rate(value, low, high, lost.n)

    def numbers(self) -> Row:
        """Return the rates as numbers of the finding, and how many images they are from."""
        rates = {"clean_accuracy": self.clean, "robust_accuracy": self.robust()}
        rates["attack_success"] = self.success()
        named = {f"test_set_{name}": each for name, each in rates.items()}
        counts = {"test_set_images": self.clean.n, "test_set_attacked": int(self.drawn.sum())}
        return counts | {
            k: v for name, each in named.items() for k, v in columns(name, each).items()
        }

    def _counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        sizes = np.bincount(self.stratum)
        seen, hits = (
            np.bincount(self.stratum[each], minlength=len(sizes))
            for each in (self.drawn, self.hits)
        )
        return sizes, seen, hits

    def rows(self) -> list[Row]:
        """Return a row a stratum, those with the least margin first."""
        return [
            {
                "stratum": f"{number + 1}",
                "images": int(size),
                "attacked": int(seen),
                **columns("success", rate(self.hits[self.drawn & (self.stratum == number)])),
            }
            for number, (size, seen, _) in enumerate(zip(*self._counts(), strict=True))
        ]

    @property
    def note(self) -> str:
        """How the rates of the whole test set were estimated."""
        score = "after one step of size eps" if self.stepped else "before any attack"
        return (
            f"All {self.clean.n:,} test images were classified, and {int(self.drawn.sum()):,} of "
            "those classified correctly were attacked. They are divided into strata by their "
            f"margin {score}; the rate of each stratum counts with its size. The estimate is right "
            "whatever the margin is worth, which only narrows the interval (docs/sampling.md)."
        )


def _scored(run: Run, stepped: bool) -> pl.DataFrame:
    """Return every test image with its prediction and score, computed once for a run."""
    threat, test = run.claim.threat, run.claim.data.test
    everything = torch.arange(len(test))
    step = FGSM(threat, loss=margin)

    def look(batch: Tensor) -> dict[str, np.ndarray]:
        images, labels = run.test_images(batch)
        clean = verified_logits(run.model, images)
        score = -margin(clean, labels)
        if stepped:
            random = Randomness(run.seed, batch.to(run.device), "score")
            moved = step(run.model, images, labels, generator=random)
            score = -margin(verified_logits(run.model, moved), labels)
        found = {"label": labels, "prediction": clean.argmax(1), "score": score}
        return {"index": batch.numpy()} | {name: each.cpu().numpy() for name, each in found.items()}

    def compute() -> pl.DataFrame:
        with run.progress.bar("scoring the test set", len(everything)) as advance, run.seeded():
            parts = run.map_batches(everything, look, advance, test)
        return pl.concat(pl.DataFrame(part) for part in parts)

    config = {"threat": str(threat), "stepped": stepped, "seed": run.seed}
    return run.subset(everything).table("scored", config, compute)
