"""Differences image by image, and the claims that they decide."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest

from scotoma.papers.checks import larger, more_errors, sentences, verdict
from scotoma.papers.duan2023 import claims
from scotoma.papers.duan2023.examination import Measurements, Models, settings
from scotoma.utils.stats import Z95, paired_difference

N = 400


def share(value: float, n: int = N) -> np.ndarray:
    """That share of images, the first ones, wrong."""
    return (np.arange(n) < round(value * n)).astype(float)


@pytest.mark.parametrize(("a", "b"), [(0.3, 0.1), (0.1, 0.3), (1, 0), (0.2, 0.2)])
def test_single_answers_have_the_interval_of_bonett_and_price(a, b):
    one, other = share(a), share(b)
    only = [int((x > y).sum()) for x, y in ((one, other), (other, one))]
    p, q = ((count + 1) / (N + 2) for count in only)
    half = Z95 * math.sqrt((p + q - (p - q) ** 2) / (N + 2))
    low, high = (max(-1, p - q - half), min(1, p - q + half))
    ours = paired_difference(one, other)
    assert ours == pytest.approx((a - b, min(low, a - b), max(high, a - b), N))


def test_a_difference_without_images_or_of_one():
    assert math.isnan(paired_difference(np.zeros(0), np.zeros(0)).low)
    assert paired_difference(np.ones(1), np.zeros(1)).low < 0, "one image proves nothing"
    assert paired_difference(np.full(3, 2.0), np.zeros(3), most=2.0).high == 2


@pytest.mark.parametrize("draws", [1, 5])
def test_the_interval_covers_the_difference(draws):
    random, covered, tries, n = np.random.default_rng(0), 0, 1000, 60
    for _ in range(tries):
        difficulty = random.random((n, 1))
        a, b = ((random.random((n, draws)) < difficulty * most).mean(1) for most in (0.6, 0.4))
        found = paired_difference(a, b)
        covered += found.low <= 0.1 <= found.high
    assert covered / tries > 0.93


def test_a_check_holds_beyond_chance_only():
    for above, holds, contrary in (
        (0.1, False, False),
        (0.105, False, False),
        (0.2, True, False),
        (0.02, False, True),
    ):
        check = more_errors("more", {"where": "m"}, ("a", share(above)), ("b", share(0.1)))
        assert (check.holds, check.contrary) == (holds, contrary)
        assert check.row["n"] == N
        assert check.row["outcome"] == (
            "agrees" if holds else "contradicts" if contrary else "undecided"
        )
    assert more_errors(
        "kept", {"where": "m"}, ("a", share(0.1)), ("b", share(0.1)), slack=0.02
    ).holds
    assert more_errors(
        "kept", {"where": "m"}, ("a", share(0.05)), ("b", share(0.1)), slack=0.02
    ).contrary
    values = np.linspace(0.4, 0.6, N)
    assert larger("more", {"where": "m"}, ("a", values + 0.001), ("b", values)).holds
    assert larger("more", {"where": "m"}, ("a", values - 0.001), ("b", values)).contrary
    assert not larger("more", {"where": "m"}, ("a", values), ("b", values)).holds


def test_a_gap_is_what_importance_adds():
    wide, narrow = ("robust", share(0.9) - share(0.7)), ("natural", share(0.3) - share(0.2))
    check = larger("wider", {"where": "m"}, wide, narrow, most=2.0)
    assert check.row["difference"] == pytest.approx(0.1)
    assert check.holds
    assert larger("wider", "m", narrow, wide, most=2.0).contrary
    # all that a robust model's larger errors come to if the order adds nothing
    nothing = np.zeros(N)
    assert not larger("wider", "m", ("robust", nothing), ("natural", nothing), most=2.0).holds


@dataclass
class Model:
    """Rates for the claims: a Gini coefficient, errors under noise and squares, led and random."""

    gini_: float
    noise_: tuple[float, float]
    squares: tuple[float, float]
    regional: float | None = None
    middle: int = 5

    def __len__(self) -> int:
        return N

    settings: list[tuple[int, int]] = field(default_factory=lambda: [(5, 1)])

    def gini(self, over: str, convention: str) -> np.ndarray:
        assert convention == {"global": "absolute", "regional": "net"}[over]
        value = self.regional if over == "regional" and self.regional else self.gini_
        return value + np.linspace(-0.01, 0.01, N)

    def noise(self, kind: str, order: str = "importance") -> np.ndarray:
        return share(self.noise_[order == "random"])

    def occlusion(self, setting: int, colour: str, order: str = "importance") -> np.ndarray:
        return share(self.squares[order == "random"])


def sweep(**changes: Any) -> Models:
    """Three models as the paper finds them, the last one changed."""
    last = {"gini_": 0.8, "noise_": (0.9, 0.5), "squares": (0.7, 0.3)} | changes
    models = {
        "natural": Model(0.6, (0.3, 0.2), (0.2, 0.1)),
        "0.1": Model(0.7, (0.5, 0.3), (0.4, 0.2)),
        "0.2": Model(**last),
    }
    return cast("dict[str, Measurements]", models)


def failing(found: Models) -> set[str]:
    """The first word of the claims that do not hold."""
    return {
        check.claim.split()[0] + " " + check.claim.split()[1]
        for check in claims.of_sweep(found)
        if not check.holds
    }


def test_what_the_paper_finds_is_a_reproduction():
    made = claims.of_sweep(sweep())
    assert len(made) == 2 * 3 + 2 + 2 + 2 + 3 + 3
    assert all(check.holds for check in made)
    assert verdict(made) == "agrees"
    assert sentences(made) == "18 of 18 comparisons agree with the paper."


def test_each_claim_can_fail():
    assert failing(sweep(regional=0.65)) == {"the regional"}
    assert failing(sweep(gini_=0.65, regional=0.9)) == {"the global"}
    importance = {"importance adds", "importance multiplies"}
    assert failing(sweep(noise_=(0.9, 0.9))) == {"noise of"} | importance
    assert failing(sweep(noise_=(0.9, 0.85))) == importance
    assert failing(sweep(squares=(0.7, 0.7))) == {"squares over"}
    assert failing(sweep(squares=(0.2, 0.05))) == {"squares over"}


def test_odds_do_not_shrink_where_errors_are_the_rule():
    found = sweep(noise_=(0.995, 0.97))
    natural, robust = found["natural"], found["0.2"]
    by_difference, by_odds = (
        {check.outcome for check in made(natural, robust, "")}
        for made in (claims.gap, claims.odds_gap)
    )
    assert by_difference == {"contradicts"}
    assert by_odds == {"agrees"}
    found = claims.odds_ratio(share(0.3), share(0.1))
    assert found.value == pytest.approx(0.3 / 0.7 * 0.9 / 0.1, rel=0.02)
    assert 2 < found.low < found.value < found.high < 7


def test_a_contradiction_is_told_with_its_interval():
    made = claims.of_sweep(sweep(gini_=0.5))
    said = sentences(made)
    assert "Contradicted: the global Gini coefficient" in said
    assert said.endswith("at a larger size (0.1, 0.2; natural, 0.2): -0.200 to -0.100.")
    one = next(check for check in made if check.contrary)
    assert sentences([one]).endswith("0.1, 0.2): -0.200 (-0.200 to -0.200).")
    undecided = sentences(claims.of_sweep(sweep(squares=(0.21, 0.1))))
    assert "Undecided: squares over" in undecided
    assert undecided.endswith(
        "black; natural, 0.2, up to 5 squares of 2x2, gray; natural, 0.2, up to 5 squares of "
        "2x2, white): +0.010 to +0.010."
    )


def test_settings_are_the_papers_at_its_size_and_small_on_small_images():
    assert settings(224, 224) == ((5, 10), (10, 20))
    for side in (8, 28, 32, 64):
        for (regions, radius), most in zip(settings(side, side), (0.04, 0.32), strict=True):
            assert regions * (2 * radius) ** 2 <= max(1.1 * most * side**2, 4)
