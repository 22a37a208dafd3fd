"""Whether measured accuracies agree with those that a claim states, and how many images decide."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scotoma.results.finding import Verdict, columns
from scotoma.threat import TOLERANCE, Threat
from scotoma.utils.stats import Rate, exact_interval, interval, rate
from scotoma.utils.text import counted, norm_name

Measure = Callable[[int], Rate]
"""Maps the number of simultaneous intervals to an accuracy with its interval."""
NOISE = ("GaussianNoise(", "SaltPepper(", "Contrast(")
"""Names of attacks that try only random changes: their failure is no evidence."""
SEARCHES = ("Strong(", "Adapted(")
"""Names of attacks with a threat that return the smallest perturbation even if it is larger."""
ROUNDED = 5e-4
"""Slack of a value without an interval: numbers are stated and printed to a tenth of a point."""
RULE = (
    "for each stated number: broken if the interval of the measured accuracy lies below it; holds "
    "if the interval reaches it and begins at most {points:.3g} points below it; else undecided, "
    "as is a robust accuracy at a threat for which no attack was made. The verdict is the worst of "
    "them. Attacks give upper bounds, so that holds means not refuted"
)
UNSTATED = (
    ". No robust accuracy is stated for the claim's own threat, so the usual rule counts as well, "
    "and the verdict is the worse of the two: {usual}"
)
WORST_FIRST: tuple[Verdict, ...] = ("broken", "undecided", "weak", "holds")


@dataclass(frozen=True)
class Judgement:
    """A stated number beside the measured one.

    Args:
        claimed: the number, a share of the test images.
        measured: its measurement; the interval is wider than 95% if several are judged.
        images: number of images that would certainly decide, if undecided; at most all test images.
        available: number of test images.
        whole: whether the measurement is of all test images, estimated from those attacked.
        why: why failed attacks are no evidence for the number; "" if they are.
    """

    name: str
    claimed: float
    measured: Rate
    verdict: Verdict
    images: int | None = None
    available: int = 0
    whole: bool = False
    why: str = ""

    @property
    def row(self) -> dict[str, Any]:
        """The judgement as a row of a table."""
        return {
            "claim": self.name,
            "claimed": self.claimed,
            **columns("measured", self.measured),
            "n": self.measured.n,
            "verdict": self.verdict,
            "images_that_decide": self.images,
        }

    def __str__(self) -> str:
        value, low, high, n = self.measured
        value_text = f"{value:.1%}" + ("" if low == high else f" ({100 * low:.1f}–{high:.1%})")
        images = f"all {self.available:,} test images" if self.whole else counted(n, "image")
        value_text += f" of {images}"
        if self.whole and n < self.available:
            value_text += f", from {n:,} attacked"
        text = f"The stated {spoken(self.name)} of {self.claimed:.1%} "
        if self.verdict == "broken":
            return f"{text}is refuted: it is at most {value_text}."
        if self.verdict == "holds":
            return f"{text}is not refuted: {value_text}."
        if self.why:
            return f"{text}is undecided: {self.why}."
        enough = f"{self.images:,} images decide"
        if self.images == self.available:
            enough = f"attacking all {self.available:,} test images decides"
        return f"{text}is undecided: {value_text}; {enough}."


def spoken(name: str) -> str:
    """Return the name of a stated number for a sentence.

    >>> spoken("robust accuracy within linf:8/255")
    'robust accuracy within L-inf 8/255'
    """
    measure, within, threat = name.partition(" within ")
    return f"{measure}{within}{Threat.parse(threat).words}" if within else measure


def judge(
    stated: Mapping[str, float],
    measured: Mapping[str, np.ndarray | Measure],
    margin: float,
    available: int,
    unattacked: Mapping[str, str] | None = None,
) -> list[Judgement]:
    """Judge every stated number by the images that were measured; all intervals hold at once.

    Args:
        stated: claimed accuracies by name.
        measured: for each name whether an image counts as accurate, bool (n,), or its accuracy on
            all test images as `Measure`.
        margin: how far below the stated number the true one may lie for the claim to hold.
        available: number of test images.
        unattacked: names of robust accuracies for which no attack was made, with the reason in
            words: these are undecided unless they are refuted all the same.

    >>> always = {"clean accuracy": np.ones(500, bool)}
    >>> [each.verdict for each in judge({"clean accuracy": 0.99}, always, 0.02, 500)]
    ['holds']
    """
    of = len(stated)
    judgements = []
    for name, claimed in stated.items():
        outcome = measured[name]
        share = outcome(of) if callable(outcome) else _of_images(outcome, of, claimed)
        verdict, why = decide(share, claimed, margin), (unattacked or {}).get(name, "")
        if why and verdict != "broken":
            verdict = "undecided"
        images = None
        if verdict == "undecided" and not why:
            images = images_that_decide(claimed, margin, of)
            images = available if share.n >= images else min(images, available)
        judgements.append(
            Judgement(name, claimed, share, verdict, images, available, callable(outcome), why)
        )
    return judgements


def _of_images(accurate: np.ndarray, of: int, claimed: float) -> Rate:
    """Return the share of images with an interval that is exact where it decides against a claim.

    Near 1 the Wilson interval ends too low: it refutes a true 99% in 9% of audits of 50 images.
    """
    share = rate(accurate, of)
    if of > 1 or not share.n or share.high >= claimed:
        return share
    exact = exact_interval(share.value, share.n)
    return exact if exact.high >= claimed else share


def decide(measured: Rate, claimed: float, margin: float) -> Verdict:
    """Return the verdict of `RULE` on a stated number.

    >>> decide(interval(0.91, 500), 0.97, 0.02), decide(interval(0.91, 50), 0.92, 0.02)
    ('broken', 'undecided')
    """
    if not measured.n:
        return "undecided"
    if measured.high < claimed - (ROUNDED if measured.low == measured.high else 0):
        return "broken"
    if measured.low == measured.high:
        return "holds"
    return "holds" if measured.low >= claimed - margin else "undecided"


def images_that_decide(claimed: float, margin: float, of: int = 1) -> int:
    """Return the smallest number of images on which every outcome decides.

    A claim is undecided if the interval begins below `claimed - margin` and reaches `claimed`. No
    interval is that wide once the widest one that ends at `claimed` is narrower than the margin.

    >>> images_that_decide(0.92, 0.02)
    3077
    """

    def decides(n: int) -> bool:
        return _decides(n, claimed, margin, of)

    many = 1
    while not decides(many):
        many *= 2
    return bisect_left(range(many), True, lo=many // 2 + 1, key=decides)


def _decides(n: int, claimed: float, margin: float, of: int) -> bool:
    """Return whether no number of accurate images among n leaves a claim undecided."""
    # the interval's ends rise with the share: the first share whose interval reaches the claim
    first = bisect_left(range(n), True, key=lambda k: interval(k / n, n, of).high >= claimed)
    return interval(first / n, n, of).low >= claimed - margin


def overall(judgements: Sequence[Judgement], usual: Verdict = "holds") -> Verdict:
    """Return the worst verdict, that of the `usual` rule included."""
    verdicts = {usual, *(each.verdict for each in judgements)}
    return next(verdict for verdict in WORST_FIRST if verdict in verdicts)


def unattacked(threat: Threat, attacks: Iterable[str]) -> str:
    """Return why no attack of an audit is evidence for a threat; "" if one is.

    `attacks` are the names in records of those on the test images.

    >>> unattacked(Threat("l2", 1.0), ["PGD(threat=Threat(norm='linf', eps=0.1))"])[:43]
    'no attack of this audit was made for L2; ad'
    >>> unattacked(Threat("l2", 1.0), ["DDN(norm='l2', steps=100)"])
    ''
    """
    most = 0.0
    for name in attacks:
        match = re.search(r"norm='(\w+)'(?:, eps=([\d.e+-]+))?", name)
        if match is None or match[1] != threat.norm or name.startswith(NOISE):
            continue
        if not match[2] or name.startswith(SEARCHES) or float(match[2]) >= threat.eps - TOLERANCE:
            return ""
        most = max(most, float(match[2]))
    if most:
        return (
            f"no attack of this audit reaches beyond {norm_name(threat.norm)} {most:g}; the attack "
            "strong does"
        )
    adds = "`scotoma attack fmn-l1` makes one" if threat.norm == "l1" else "add the probe norms"
    return f"no attack of this audit was made for {norm_name(threat.norm)}; {adds}"
