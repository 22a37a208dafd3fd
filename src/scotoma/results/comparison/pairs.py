"""Rates and medians of every two audits, compared on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from scotoma.results.comparison.audits import UNCHANGED, Audit, Audits, is_same_model
from scotoma.results.finding import Row, Verdict, columns
from scotoma.utils.paired import holm, mcnemar, median_difference
from scotoma.utils.stats import finite, median, paired_difference

LEVEL = 0.05
"""Corrected p below which two rates differ."""
UNDECIDED = "undecided"
"""Value of `ahead` where the images do not decide."""
SEED = 0
"""Seed of the bootstrap: two comparisons of the same folders print the same numbers."""
RULE = (
    "differs if the exact McNemar p of some pair, corrected for all tests of this section (Holm), "
    f"is below {LEVEL:.0%}, the models are not the same, and the audit ahead hides no gradient and "
    "was not attacked less strongly than the other, else undecided: these audits do not tell the "
    "models apart"
)
ROBUST_RULE = RULE.replace("some pair", "the robust accuracies of some pair")
CLEAN, ROBUST = "accuracy", "robust accuracy"
"""Names of measures."""
INTERVALS = (
    "Rates have 95% Wilson intervals. The difference of two rates is that of the same images, with "
    "the 95% interval of Bonett and Price (2012), which is not corrected. p is that of McNemar's "
    "exact test, which looks only at the images on which the two audits disagree; corrected p "
    "(Holm) allows for all tests of this section and decides who is ahead."
)
MEDIANS = (
    "Medians of the smallest perturbation count a clean error as 0 and an image without an "
    "adversarial example as infinite; – is not reached. Their difference has a paired bootstrap "
    "interval of 95% for all pairs together."
)


@dataclass(frozen=True)
class Measure:
    """A yes or no for each image in each audit; the rates are compared.

    Args:
        name: what the rate is; more is better.
        values: one array for each audit, bool (n,).
        attacked: whether it rests on failed attacks. An audit whose gradient is hidden is then
            never ahead, since its robustness was not measured; nor is one that tried less.
        transform: transform of the images on which the attacks ran.
        columns: further columns of its rows.
    """

    name: str
    values: list[np.ndarray]
    attacked: bool = True
    transform: str = UNCHANGED
    columns: Row = field(default_factory=dict)


def differences(audits: Audits, measures: Sequence[Measure]) -> list[Row]:
    """Return a row for each measure and pair of audits; p is corrected over all rows.

    `first_only` counts the images that count in the first audit alone.
    """
    pairs = [(each, a, b) for each in measures for a, b in combinations(range(len(audits)), 2)]
    exact = [mcnemar(each.values[a], each.values[b]) for each, a, b in pairs]
    rows = []
    for (measure, a, b), p, corrected in zip(pairs, exact, holm(exact), strict=True):
        first, second = measure.values[a], measure.values[b]
        gap = paired_difference(first, second)
        winner, loser = (audits.each[i] for i in ((a, b) if gap.value > 0 else (b, a)))
        attacked = measure.transform if measure.attacked else None
        clear = corrected < LEVEL and _may_be_ahead(winner, loser, attacked)
        rows.append(
            {
                "measure": measure.name,
                **measure.columns,
                "first": audits.names[a],
                "second": audits.names[b],
                **columns("difference", gap),
                "first_only": int((first & ~second).sum()),
                "second_only": int((second & ~first).sum()),
                "p": finite(p),
                "corrected_p": finite(corrected),
                "ahead": winner.name if clear else UNDECIDED,
            }
        )
    return rows


def _may_be_ahead(winner: Audit, loser: Audit, attacked: str | None) -> bool:
    """Return whether the winner may be called ahead; `attacked` is the transform of the attacks."""
    if is_same_model(winner, loser):
        return False
    return attacked is None or not (winner.hidden or winner.tried_less(loser, attacked))


def robust(rows: Sequence[Row]) -> list[Row]:
    """Return the rows on robust accuracy."""
    return [row for row in rows if row["measure"] == ROBUST]


def decided(rows: Sequence[Row]) -> list[Row]:
    """Return the rows in which an audit is ahead."""
    return [row for row in rows if row["ahead"] != UNDECIDED]


def verdict(rows: Sequence[Row]) -> Verdict:
    """Return the verdict of `RULE` on the rows of `differences`.

    >>> verdict([{"ahead": "undecided"}]), verdict([{"ahead": "new"}, {"ahead": "undecided"}])
    ('undecided', 'differs')
    """
    return "differs" if decided(rows) else "undecided"


def medians(audits: Audits, norm: str) -> list[Row]:
    """Return a row for each pair of audits with the medians of the smallest perturbation."""
    sizes, rows = [audit.sizes(norm) for audit in audits], []
    pairs = list(combinations(range(len(audits)), 2))
    for a, b in pairs:
        gap = median_difference(sizes[a], sizes[b], SEED, of=len(pairs))
        winner, loser = (audits.each[i] for i in ((a, b) if gap.low > 0 else (b, a)))
        clear = (gap.low > 0 or gap.high < 0) and _may_be_ahead(winner, loser, UNCHANGED)
        rows.append(
            {
                "norm": norm,
                "first": audits.names[a],
                "second": audits.names[b],
                "median_first": finite(median(sizes[a]).value),
                "median_second": finite(median(sizes[b]).value),
                **columns("difference", gap),
                "ahead": winner.name if clear else UNDECIDED,
            }
        )
    return rows
