"""Robustness on the whole test set: all images classified, those of uncertain outcome attacked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from torch import Tensor

from scotoma.execution import records as rec
from scotoma.execution.batching import Attack
from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled
from scotoma.metrics.stratified import FEWEST, draws_for
from scotoma.probes.base import columns
from scotoma.probes.scored import Outcomes, Scored
from scotoma.results.finding import Row
from scotoma.results.ledger import Ledger
from scotoma.utils.stats import Rate


@dataclass(frozen=True)
class WholeSet:
    """What is known of the whole test set.

    Args:
        scored: all test images.
        outcomes: the attack within eps on some of them.
    """

    scored: Scored
    outcomes: Outcomes

    @property
    def clean(self) -> Rate:
        """Accuracy without an attack, which is known: all test images were classified."""
        return exactly(self.scored.correct)

    def success(self, of: int = 1) -> Rate:
        """Return the share of correctly classified images that are fooled; `n` were attacked."""
        return self.outcomes.success(of)

    def robust(self, of: int = 1) -> Rate:
        """Return the robust accuracy; `n` images were attacked."""
        success, share = self.success(of), self.clean.value
        if not success.n:
            return Rate(share, share, share, 0)
        value, low, high = (
            share * (1 - fooled) for fooled in (success.value, success.high, success.low)
        )
        return Rate(value, low, high, success.n)

    def numbers(self) -> Row:
        """Return the rates as numbers of the finding, and how many images they are from."""
        return {
            "test_set_images": self.clean.n,
            "test_set_attacked": int(self.outcomes.attacked.sum()),
            **columns("test_set_clean_accuracy", self.clean),
            **columns("test_set_robust_accuracy", self.robust()),
            **columns("test_set_attack_success", self.success()),
        }


def exactly(flags: np.ndarray, of: int = 1) -> Rate:
    """Return the rate of a boolean array (n,) that covers all images, so it has no sampling error.

    The interval has no width, however many intervals hold at once (`of`).
    """
    share = float(flags.mean())
    return Rate(share, share, share, len(flags))


def further(
    scored: Scored, run: Run, attack: Attack, audited: pl.DataFrame, precision: float | None
) -> pl.DataFrame:
    """Attack more of the test set until the interval of the robust accuracy is narrow enough.

    Args:
        scored: all test images.
        run: on the audited images.
        attack: the audit attack.
        audited: its records of these images.
        precision: half of the width of the interval; None attacks no others.

    Returns:
        `index` and `fooled` (at eps) of the images drawn beside the audited ones.
    """
    threat = run.claim.threat
    indices = (
        torch.arange(0) if precision is None else _uncertain_images(scored, run, audited, precision)
    )
    if not len(indices):
        return pl.DataFrame(schema={"index": pl.Int64, "fooled": pl.Boolean})
    records = run.subset(indices).attack(attack, what="images of uncertain outcome")
    fooled = pl.Series("fooled", rec.fallen(records, threat.eps, threat.norm))
    return records.select("index").with_columns(fooled)


def _uncertain_images(scored: Scored, run: Run, audited: pl.DataFrame, precision: float) -> Tensor:
    """Return the images to attack beside the audited ones, int64, as the seed orders them."""
    threat, stratum = run.claim.threat, scored.strata()
    outcomes = scored.outcomes(
        audited["index"].to_numpy(), rec.fallen(audited, threat.eps, threat.norm)
    )
    sizes, attacked, fooled = replace(outcomes, stratum=stratum).counts()
    # precision is that of robust accuracy, in which only correct images can be lost
    share = len(stratum) / len(scored.table)
    draws = draws_for(sizes, attacked, fooled, precision / share)
    draws = np.maximum(draws, np.minimum(sizes, FEWEST) - attacked)
    rank = np.argsort(shuffled(len(scored.table), run.seed).numpy())[scored.correct]
    index = scored.table["index"].to_numpy()[scored.correct]
    chosen: list[np.ndarray] = []
    for number, count in enumerate(draws):
        open_ = np.flatnonzero((stratum == number) & ~outcomes.attacked)
        chosen.append(index[open_[np.argsort(rank[open_])[: max(count, 0)]]])
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def whole_set(scored: Scored, additional: pl.DataFrame, run: Run, ledger: Ledger) -> WholeSet:
    """Return the rates of the whole test set, with what all attacks found on audited images."""
    rows, threat = ledger.rows(), run.claim.threat
    fooled = rec.fallen(rows, threat.eps, threat.norm)
    index = np.concatenate([rows["index"].to_numpy(), additional["index"].to_numpy()])
    outcomes = scored.outcomes(index, np.concatenate([fooled, additional["fooled"].to_numpy()]))
    return WholeSet(scored, outcomes)
