"""Rates of a whole test set from images drawn by risk: exact cases, coverage, and what it saves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from recorded_outcomes import RECORDED

from scotoma.metrics.stratified import (
    FEWEST,
    draws_for,
    joined,
    next_draws,
    strata_of,
    stratified_rate,
)
from scotoma.utils.stats import Rate, interval

IMAGES, PILOT = 10_000, 200


def outcomes(name: str, draws: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return 10,000 images like those of a network: which are fooled, and four scores."""
    n, *texts = RECORDED[name]
    picked, scores = np.sort(draws.integers(0, n, IMAGES)), {}
    bits = [
        np.unpackbits(np.frombuffer(bytes.fromhex(text.ljust(-(-n // 8) * 2, "0")), np.uint8))[:n]
        for text in texts
    ]
    fooled = bits[0][picked].astype(bool)
    scores["step"] = np.arange(IMAGES, dtype=float)
    order = np.argsort(draws.random(IMAGES))  # the same number of hits, in the order of margins
    before = np.sort(draws.integers(0, n, IMAGES))
    place = np.empty(IMAGES)
    hits = np.argsort(~bits[1][before].astype(bool), kind="stable")
    place[np.argsort(~fooled, kind="stable")] = hits
    scores["margin"], scores["reversed"] = place, -place
    scores["useless"] = order.astype(float)
    return fooled, scores


def audited(
    fooled: np.ndarray, score: np.ndarray, draws: np.random.Generator, precision: float | None
) -> Rate:
    """Draw a pilot, plan and draw more as an audit does, and return the rate."""
    stratum, order = strata_of(score), draws.permutation(len(fooled))
    sizes = np.bincount(stratum)
    drawn = np.zeros(len(fooled), bool)
    drawn[order[:PILOT]] = True

    def counts(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        length = labels.max() + 1
        seen = np.bincount(labels[drawn], minlength=length)
        return np.bincount(labels), seen, np.bincount(labels[drawn & fooled], minlength=length)

    if precision:
        _, seen, hits = counts(stratum)
        more = np.maximum(draws_for(sizes, seen, hits, precision), np.minimum(sizes, FEWEST) - seen)
        for number, count in enumerate(more):
            left = order[(stratum[order] == number) & ~drawn[order]]
            drawn[left[: max(count, 0)]] = True
    return stratified_rate(*counts(joined(stratum, drawn)))


def coverage(rates: list[Rate], truth: float) -> float:
    return float(np.mean([each.low <= truth <= each.high for each in rates]))


def uniform_images(rate: float, half: float) -> int:
    """Return how many images drawn uniformly have an interval as narrow."""
    few, many = 1, 10**7
    while many - few > 1:
        middle = (few + many) // 2
        share = interval(rate, middle)
        few, many = (few, middle) if (share.high - share.low) / 2 <= half else (middle, many)
    return many


@pytest.mark.parametrize(("n", "hits"), [(100, 7), (400, 0), (50, 50)])
def test_one_stratum_has_the_upper_end_of_wilson(n, hits):
    wide, wilson = (
        stratified_rate(np.array([10**9]), np.array([n]), np.array([hits])),
        interval(hits / n, n),
    )
    assert wide.value == wilson.value
    assert wide.high == pytest.approx(wilson.high, abs=1e-6)
    assert wide.low <= wilson.low + 1e-3


def test_misses_that_are_rare_have_the_interval_of_rare_hits():
    sizes, drawn = np.array([9_000, 1_000]), np.array([90, 110])
    rare = stratified_rate(sizes, drawn, np.array([0, 55]))
    usual = stratified_rate(sizes, drawn, np.array([90, 55]))
    assert usual == pytest.approx((1 - rare.value, 1 - rare.high, 1 - rare.low, 200))
    none = stratified_rate(sizes, drawn, drawn)
    wilson = interval(1.0, int(drawn.sum()))
    assert none.value == none.high == 1
    assert none.low > wilson.low - 0.02, "strata cost little where all images are hits"


def test_half_of_the_images_may_be_hits():
    """In floating point both hits and misses are more than a half."""
    share = stratified_rate(np.array([4, 8, 8]), np.array([3, 4, 3]), np.array([3, 3, 0]))
    assert share.low < share.value < share.high
    assert share.value == pytest.approx(0.5)


@pytest.mark.parametrize("hits", [0, 3, 10])
@pytest.mark.parametrize("sizes", [(10, 20, 20), (3, 4, 3)])
def test_a_rate_lies_in_its_interval_and_is_a_share(sizes, hits):
    drawn = np.array([3, 4, 3])
    share = stratified_rate(np.array(sizes), drawn, np.minimum(drawn, hits))
    assert 0 <= share.low <= share.value <= share.high <= 1


def test_strata_like_one_another_are_like_one():
    many = stratified_rate(np.full(8, 10**8), np.full(8, 50), np.zeros(8))
    one = stratified_rate(np.array([8 * 10**8]), np.array([400]), np.array([0]))
    assert many.high == pytest.approx(one.high, rel=1e-4)


def test_a_test_set_of_which_every_image_was_attacked_is_known():
    share = stratified_rate(np.array([30, 70]), np.array([30, 70]), np.array([3, 7]))
    assert share == pytest.approx((0.1, 0.1, 0.1, 100))


def test_a_large_stratum_without_a_hit_may_hide_some():
    few = stratified_rate(np.array([9_000, 1_000]), np.array([10, 100]), np.array([0, 50]))
    many = stratified_rate(np.array([9_000, 1_000]), np.array([1_000, 100]), np.array([0, 50]))
    assert few.high > 0.25
    assert many.high < 0.07


def test_intervals_that_hold_at_once_are_wider():
    counts = np.array([900, 100]), np.array([50, 50]), np.array([2, 20])
    alone, three = stratified_rate(*counts), stratified_rate(*counts, of=3)
    assert three.low < alone.low < alone.high < three.high


@pytest.mark.parametrize("number", [0, 7, 150, 10_000])
def test_no_more_images_are_drawn_than_there_are(number):
    sizes, drawn = np.array([5, 100, 400]), np.array([5, 10, 20])
    more = next_draws(sizes, drawn, np.array([5, 4, 0]), number)
    assert more.sum() == min(number, (sizes - drawn).sum())
    assert (more >= 0).all()
    assert (drawn + more <= sizes).all()


def test_strata_with_few_drawn_images_join_their_neighbours():
    stratum, drawn = np.repeat(np.arange(4), 10), np.zeros(40, bool)
    drawn[[0, 10, 11, 12, 20, 21, 22, 30]] = True
    new = joined(stratum, drawn)
    assert np.bincount(new[drawn]).min() >= FEWEST
    assert (np.diff(new) >= 0).all()


@pytest.mark.parametrize("name", ["mnist-small-pgd-03", "fashion-wong"])
def test_the_interval_covers_and_saves_two_thirds(name):
    draws = np.random.default_rng(0)
    fooled, scores = outcomes(name, draws)
    truth = float(fooled.mean())
    rates = [audited(fooled, scores["step"], draws, 0.02) for _ in range(60)]
    assert coverage(rates, truth) > 0.85
    half = float(np.mean([each.high - each.low for each in rates])) / 2
    assert np.mean([each.n for each in rates]) < uniform_images(truth, half) / 3


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED)
def test_coverage_with_every_score(name, capsys):
    """2,000 audits each; prints the table of docs/sampling.md."""
    draws = np.random.default_rng(0)
    fooled, scores = outcomes(name, draws)
    truth, cells, covered = float(fooled.mean()), [], {}
    for score, values in scores.items():
        rates = [audited(fooled, values, draws, 0.02) for _ in range(2_000)]
        covered[score] = coverage(rates, truth)
        half = float(np.mean([each.high - each.low for each in rates])) / 2
        n = float(np.mean([each.n for each in rates]))
        cells.append(f"{covered[score]:.1%}, {uniform_images(truth, half) / n:.1f}")
    with capsys.disabled():
        print(f"\n| {name} | {truth:.1%} | {' | '.join(cells)} |")
    assert min(covered["step"], covered["margin"]) > 0.935
    assert min(covered.values()) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "precision"), [(0.005, 0.01), (0.97, 0.02), (0.995, 0.01)])
@pytest.mark.parametrize("order", [np.sort, lambda each: each], ids=["good", "useless"])
def test_coverage_of_extreme_rates(
    order: Callable[[np.ndarray], np.ndarray], rate: float, precision: float
):
    draws = np.random.default_rng(0)
    fooled = np.arange(IMAGES) < rate * IMAGES
    score = np.arange(IMAGES, dtype=float) if order is np.sort else draws.random(IMAGES)
    rates = [audited(fooled, score, draws, precision) for _ in range(2_000)]
    assert coverage(rates, rate) > 0.94
