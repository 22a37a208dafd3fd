"""Whether measured accuracies agree with those that a claim states, and how many images decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scotoma.results.finding import Verdict
from scotoma.utils.stats import Rate, finite, interval, rate
from scotoma.utils.text import norm_name

Measure = Callable[[int], Rate]
"""From the number of intervals that hold at once to an accuracy."""
RULE = (
    "for each stated number: broken if the interval of the measured accuracy lies below it; holds "
    "if the interval reaches it and begins at most {margin:.1%} below it; else undecided. The "
    "verdict is the worst of them. Attacks give upper bounds, so that holds means not refuted"
)
WORST_FIRST: tuple[Verdict, ...] = ("broken", "undecided", "holds")


@dataclass(frozen=True)
class Judgement:
    """A stated number beside the measured one.

    Args:
        name: what the number is.
        claimed: the number, a share of the test images.
        measured: its measurement; the interval is wider than 95% if several are judged.
        verdict: "holds", "broken" or "undecided".
        images: number of images that decides for certain, if undecided.
        available: number of test images.
    """

    name: str
    claimed: float
    measured: Rate
    verdict: Verdict
    images: int | None = None
    available: int = 0

    @property
    def row(self) -> dict[str, Any]:
        """The judgement as a row of a table."""
        return {
            "claim": self.name,
            "claimed": self.claimed,
            "measured": finite(self.measured.value),
            "measured_low": finite(self.measured.low),
            "measured_high": finite(self.measured.high),
            "n": self.measured.n,
            "verdict": self.verdict,
            "images_that_decide": self.images,
        }

    def __str__(self) -> str:
        low, high = self.measured.low, self.measured.high
        measured = f"{self.measured.value:.1%} ({100 * low:.1f}–{high:.1%}) of {self.measured.n:,}"
        text = f"The stated {spoken(self.name)} of {self.claimed:.1%} "
        if self.verdict == "broken":
            return f"{text}is refuted: it is at most {measured} images."
        if self.verdict == "holds":
            return f"{text}is not refuted: {measured} images."
        enough = f"{self.images:,} images decide"
        if (self.images or 0) > self.available:
            enough += f", more than the {self.available:,} test images"
        return f"{text}is undecided: {measured} images; {enough}."


def spoken(name: str) -> str:
    """Return the name of a stated number for a sentence.

    >>> spoken("robust accuracy within linf:8/255")
    'robust accuracy within L-inf 8/255'
    """
    what, within, threat = name.partition(" within ")
    norm, _, size = threat.partition(":")
    return f"{what}{within}{norm_name(norm)} {size}" if within else what


def judge(
    stated: Mapping[str, float],
    measured: Mapping[str, np.ndarray | Measure],
    margin: float,
    available: int,
) -> list[Judgement]:
    """Judge every stated number by the images that were measured; all intervals hold at once.

    Args:
        stated: claimed accuracies by name.
        measured: for each name whether an image counts as accurate, bool (n,), or a function from
            the number of intervals that hold at once to the accuracy.
        margin: how far below the stated number the true one may lie for the claim to hold.
        available: number of test images.

    >>> always = {"clean accuracy": np.ones(500, bool)}
    >>> [each.verdict for each in judge({"clean accuracy": 0.99}, always, 0.02, 500)]
    ['holds']
    """
    of = len(stated)
    found = []
    for name, claimed in stated.items():
        outcome = measured[name]
        share = outcome(of) if callable(outcome) else rate(outcome, of)
        verdict = decide(share, claimed, margin)
        images = images_that_decide(claimed, margin, of) if verdict == "undecided" else None
        found.append(Judgement(name, claimed, share, verdict, images, available))
    return found


def decide(measured: Rate, claimed: float, margin: float) -> Verdict:
    """Return the verdict of `RULE` on a stated number.

    >>> decide(interval(0.91, 500), 0.97, 0.02), decide(interval(0.91, 50), 0.92, 0.02)
    ('broken', 'undecided')
    """
    if not measured.n:
        return "undecided"
    if measured.high < claimed:
        return "broken"
    return "holds" if measured.low >= claimed - margin else "undecided"


def images_that_decide(claimed: float, margin: float, of: int = 1) -> int:
    """Return the smallest number of images on which every outcome decides.

    Undecided takes an interval that begins below `claimed - margin` and ends at `claimed` or above:
    none is that wide once the widest one that ends at `claimed` is narrower than the margin.

    >>> images_that_decide(0.92, 0.02)
    3077
    """
    few, many = 0, 1
    while not _decides(many, claimed, margin, of):
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if _decides(middle, claimed, margin, of) else (middle, many)
    return many


def _decides(n: int, claimed: float, margin: float, of: int) -> bool:
    """Return whether no number of accurate images among n leaves a claim undecided."""
    # the interval's ends rise with the share: the first share whose interval reaches the claim
    few, many = -1, n
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if interval(middle / n, n, of).high >= claimed else (middle, many)
    return interval(many / n, n, of).low >= claimed - margin


def overall(judgements: Sequence[Judgement]) -> Verdict:
    """Return the worst verdict."""
    found = {each.verdict for each in judgements}
    return next(verdict for verdict in WORST_FIRST if verdict in found)
