"""Scores of all test images, which extend the rates of attacked images to the whole test set.

The estimate is right whatever the score is worth; a good one narrows the interval
(`docs/sampling.md`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from scotoma.attacks.core.losses import margin
from scotoma.attacks.single_step import FGSM
from scotoma.execution.records import is_correct, verified_logits
from scotoma.execution.run import Run
from scotoma.metrics.stratified import joined, strata_of, stratified_rate
from scotoma.models.classifier import is_randomised
from scotoma.probes.base import columns
from scotoma.results.finding import Row
from scotoma.utils.random import Randomness
from scotoma.utils.stats import Rate, rate

PASSES = 4
"""Passes of each test image to score it: prediction, gradient (two), and the stepped image."""
DEAREST = 0.5
"""Largest cost of scoring all images, as a share of what the audit attack has taken."""
UNKNOWN = Rate(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of an attack on some of the images of a population, all of which have a stratum.

    The arrays are over the images of the population that are classified correctly.

    Args:
        stratum: int (n,).
        attacked: whether an image was attacked, bool (n,).
        fooled: whether it was fooled, bool (n,).
    """

    stratum: np.ndarray
    attacked: np.ndarray
    fooled: np.ndarray

    def success(self, of: int = 1) -> Rate:
        """Return the share of the population that is fooled; `n` images were attacked.

        Args:
            of: number of intervals that hold at once with 95%.
        """
        return stratified_rate(*self.counts(), of) if self.attacked.any() else UNKNOWN

    def rows(self) -> list[Row]:
        """Return a row a stratum, those with the least margin first."""
        return [
            {
                "stratum": f"{number + 1}",
                "images": int(size),
                "attacked": int(attacked),
                **columns("success", rate(self.fooled[self.attacked & (self.stratum == number)])),
            }
            for number, (size, attacked, _) in enumerate(zip(*self.counts(), strict=True))
        ]

    def counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the images, the attacked ones and the fooled ones of each stratum, int (k,)."""
        sizes = np.bincount(self.stratum)
        attacked, fooled = (
            np.bincount(self.stratum[flags], minlength=len(sizes))
            for flags in (self.attacked, self.fooled)
        )
        return sizes, attacked, fooled


@dataclass(frozen=True)
class Scored:
    """All test images, with their predictions and scores.

    Args:
        table: `index`, `label`, `prediction` and `score`, the margin after one step of size eps, or
            before it where gradients are of no use.
        stepped: whether the score is the margin after a step.
    """

    table: pl.DataFrame
    stepped: bool

    @classmethod
    def of(
        cls, run: Run, records: pl.DataFrame, clean: bool, whatever_it_costs: bool = False
    ) -> Scored | None:
        """Score the test set, once for a run.

        Args:
            run: on the audited images.
            records: records of the audit attack on these images.
            clean: whether the gradient leads attacks (`Plan.clean`), so that one step says much.
            whatever_it_costs: score also where that is dear beside the attack.

        Returns:
            None where all images were audited, the model is randomised, or scoring is too dear.
        """
        total = len(run.claim.data.test)
        passes = float(records.select(pl.sum("forwards") + pl.sum("backwards")).item())
        if len(run.indices) == total or is_randomised(run.claim.model.module):
            return None
        if not whatever_it_costs and PASSES * total > DEAREST * passes:
            return None
        return cls(_table(run, clean), clean)

    @property
    def correct(self) -> np.ndarray:
        """Which images are classified correctly, bool (n,)."""
        return is_correct(self.table)

    def strata(self, chosen: np.ndarray | None = None) -> np.ndarray:
        """Return the strata of some images, int; by default of those classified correctly."""
        return strata_of(self.table["score"].to_numpy()[self.correct if chosen is None else chosen])

    def outcomes(
        self, index: np.ndarray, fooled: np.ndarray, correct: np.ndarray | None = None
    ) -> Outcomes:
        """Return the outcomes among all test images that are classified correctly.

        Args:
            index: test images that were attacked, drawn from each stratum at random, int (k,).
            fooled: whether each was fooled, bool (k,).
            correct: the test images that are classified correctly, such as those after a transform,
                int; by default those of the table.
        """
        indices = self.table["index"].to_numpy()
        among = self.correct if correct is None else np.isin(indices, correct)
        outcome = dict(zip(np.asarray(index).tolist(), np.asarray(fooled).tolist(), strict=True))
        rows = indices[among].tolist()
        attacked = np.array([each in outcome for each in rows], bool)
        hits = np.array([outcome.get(each, False) for each in rows], bool)
        return Outcomes(joined(self.strata(among), attacked), attacked, hits)

    @property
    def note(self) -> str:
        """How the rates of the whole test set were estimated."""
        score = "after one step of size eps" if self.stepped else "before any attack"
        return (
            f"All {len(self.table):,} test images were classified. They are divided into strata by "
            f"their margin {score}; the rate of the attacked images of each stratum counts with "
            "its size. The estimate is right whatever the margin is worth, which only narrows the "
            "interval (docs/sampling.md)."
        )


def _table(run: Run, stepped: bool) -> pl.DataFrame:
    """Return every test image with its prediction and score, computed once for a run."""
    threat, test = run.claim.threat, run.claim.data.test
    everything = torch.arange(len(test))
    step = FGSM(threat, loss=margin)

    def look(batch: Tensor) -> dict[str, np.ndarray]:
        images, labels = run.test_images(batch)
        logits = verified_logits(run.model, images)
        score = -margin(logits, labels)
        if stepped:
            random = Randomness(run.seed, batch.to(run.device), "score")
            perturbed = step(run.model, images, labels, generator=random)
            score = -margin(verified_logits(run.model, perturbed), labels)
        arrays = {"label": labels, "prediction": logits.argmax(1), "score": score}
        return {"index": batch.numpy()} | {
            name: each.cpu().numpy() for name, each in arrays.items()
        }

    def compute() -> pl.DataFrame:
        with run.progress.bar("scoring the test set", len(everything)) as advance, run.seeded():
            parts = run.map_batches(everything, look, advance, test)
        return pl.concat(pl.DataFrame(part) for part in parts)

    config = {"threat": str(threat), "stepped": stepped, "seed": run.seed}
    return run.subset(everything).table("scored", config, compute)
