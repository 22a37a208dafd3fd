import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from scotoma.utils.stats import (
    difference,
    finite,
    median,
    paired_difference,
    partial_spearman,
    rate,
    ratio,
    simultaneous_differences,
    spearman,
)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion", Table I,
        # method 3 (Wilson)
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval(k, n, low, high):
    estimate = rate(np.arange(n) < k)
    assert estimate.n == n
    assert estimate.value == pytest.approx(k / n)
    assert (round(estimate.low, 4), round(estimate.high, 4)) == (low, high)


def test_the_interval_is_symmetric_and_stays_inside():
    none, every = rate(np.zeros(7, bool)), rate(np.ones(7, bool))
    assert (none.value, none.low) == (0, 0)
    assert (every.value, every.high) == (1, 1)
    assert none.high == pytest.approx(1 - every.low)


def test_a_rate_of_nothing():
    empty = rate(np.zeros(0, bool))
    assert empty.n == 0
    assert math.isnan(empty.value)
    assert str(empty) == "no images"


def test_spearman_is_scipys():
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    y = np.round(x + rng.normal(size=300), 1)  # with ties
    estimate = spearman(x, y, 0)
    assert estimate.value == pytest.approx(spearmanr(x, y)[0])
    assert estimate.low < estimate.value < estimate.high
    assert estimate == spearman(x, y, 0)
    # the Fisher interval of a correlation of 0.7 among 300 is 0.11 wide
    assert estimate.high - estimate.low == pytest.approx(0.115, abs=0.03)


def test_censored_values_tie_at_the_top():
    x = np.array([1.0, 2, 3, 4, 5])
    y = np.array([0.1, 0.2, 0.3, np.inf, np.inf])
    assert spearman(x, y, 0).value == pytest.approx(spearmanr(x, [1, 2, 3, 9, 9])[0])


@pytest.mark.parametrize(
    "y", [np.full(9, np.inf), np.full(9, 0.25), np.append(np.arange(8.0), np.nan)]
)
def test_no_ranks_no_correlation(y):
    for pair in ((np.arange(9.0), y), (y, np.arange(9.0))):
        estimate = spearman(*pair, 0)
        assert math.isnan(estimate.value)
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)
        assert estimate.n == 0


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_to_correlate(n):
    assert math.isnan(spearman(np.arange(float(n)), np.arange(float(n)), 0).value)


def test_finite():
    assert finite(1 / 3) == 0.333333
    assert finite(np.float32(123456.78)) == 123457
    assert finite(math.inf) is finite(math.nan) is None


def test_the_median_and_its_interval():
    values = np.random.default_rng(0).permutation(np.arange(1.0, 101))
    assert median(values) == (50, 40, 61, 100)  # Conover's table: the 40th and the 61st of 100
    values[values > 55] = np.inf
    assert median(values) == (50, 40, np.inf, 100)
    assert median(np.array([3.0])) == (3, 3, 3, 1)
    assert np.isnan(median(np.array([])).value)


def test_the_interval_of_the_median_covers():
    generator = np.random.default_rng(0)
    estimates = [median(generator.exponential(size=51)) for _ in range(2000)]
    assert 0.94 < np.mean([each.low <= np.log(2) <= each.high for each in estimates]) < 0.98


def simulated(cells: int, n: int, shared: float, rng: np.random.Generator) -> np.ndarray:
    """Which of n images are fooled under each of some cells, as often as without a change (20%).

    A cell agrees with the base, the first row, on a share of the images.
    """
    base = rng.random(n) < 0.2
    fresh = rng.random((cells, n)) < 0.2
    return np.vstack([base, np.where(rng.random((cells, n)) < shared, base, fresh)])


def test_the_largest_of_many_differences_errs_in_one_of_twenty():
    rng, errors, alone, trials = np.random.default_rng(1), 0, 0, 150
    for _ in range(trials):
        base, *cells = simulated(12, 150, 0.5, rng)
        errors += any(each.low > 0 for each in simultaneous_differences(np.array(cells), base))
        alone += any(paired_difference(cell, base).low > 0 for cell in cells)
    assert errors / trials < 0.05  # the rule looks at one end of an interval: 2.5% are expected
    assert alone / trials > 0.08, "without a correction the largest of 12 is often called a rise"


def test_simultaneous_intervals_need_no_width_for_cells_that_agree():
    rng = np.random.default_rng(0)
    base = rng.random(200) < 0.2
    cell = base | (rng.random(200) < 0.3)
    (single,) = simultaneous_differences(cell[None], base)
    assert single == paired_difference(cell, base)
    many = simultaneous_differences(np.tile(cell, (20, 1)), base)
    wide = many[0].high - many[0].low
    assert 1 < wide / (single.high - single.low) < 1.3  # 1.54 for 20 that are independent
    assert simultaneous_differences(np.zeros((0, 5), bool), np.zeros(5, bool)) == []


def test_the_interval_of_the_difference_of_two_rates():
    # Newcombe 1998, "Interval estimation for the difference between independent proportions",
    # Table II, method 10: 56/70 - 48/80
    estimate = difference(rate(np.arange(70) < 56), rate(np.arange(80) < 48))
    assert (round(estimate.low, 4), round(estimate.high, 4)) == (0.0524, 0.3339)


def test_intervals_of_many_rates_are_wider():
    one, many = (rate(np.arange(100) < 60, of=k) for k in (1, 20))
    assert many.low < one.low < one.value == many.value


def test_a_partial_correlation_removes_what_both_follow():
    random = np.random.default_rng(0)
    common, noise = random.normal(size=(2, 300))
    x, y = common + 0.3 * noise, common + 0.3 * random.normal(size=300)
    estimate = partial_spearman(x, y, common, 0)
    assert estimate.low < 0 < estimate.high, "nothing is left"
    assert spearman(x, y, 0).low > 0.8
    linked = partial_spearman(x, y + noise, common, 0)
    assert linked.low > 0.5
    pairs = (x, y), (x, common), (y, common)
    a, b, c = (float(spearmanr(*pair)[0]) for pair in pairs)  # type: ignore[arg-type]
    assert estimate.value == pytest.approx((a - b * c) / math.sqrt((1 - b**2) * (1 - c**2)))


def test_a_partial_correlation_that_is_not_defined():
    values = np.arange(20.0)
    assert math.isnan(partial_spearman(values, np.ones(20), values, 0).value)
    assert math.isnan(partial_spearman(values[:3], values[:3], values[:3], 0).value)
    censored = np.where(values > 15, np.inf, values)
    assert partial_spearman(values, censored, values % 3, 0).value > 0.9


def test_the_interval_of_a_ratio_covers_it():
    random, covered, (p, q), n = np.random.default_rng(0), 0, (0.3, 0.1), 150
    for _ in range(1000):
        estimate = ratio(*(rate(random.random(n) < share) for share in (p, q)))
        covered += estimate.low <= p / q <= estimate.high
    assert 0.93 < covered / 1000 < 0.98
    none, some = rate(np.zeros(50, bool)), rate(np.arange(50) < 5)
    assert 0 < ratio(none, some).high < 2
