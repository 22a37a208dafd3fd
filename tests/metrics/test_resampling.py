import math

import numpy as np
import pytest

from scotoma.metrics.resampling import Comparison, average, compare


def test_the_standard_error_is_that_of_a_mean_and_the_null_is_as_wide():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0, 1, 400), rng.normal(0.5, 2, 200)])
    comparison = compare(
        400, 200, lambda a, b: float(values[b].mean() - values[a].mean()), (0,), draws=2000
    )
    assert comparison is not None
    assert comparison.value == pytest.approx(0.5, abs=0.4)
    assert comparison.error == pytest.approx(math.sqrt(1 / 400 + 4 / 200), rel=0.1)
    assert comparison.low == pytest.approx(comparison.value - 1.96 * comparison.error, abs=1e-4)
    assert comparison.null.mean() == pytest.approx(0, abs=0.01)
    assert comparison.null.std() == pytest.approx(math.sqrt(1 / 200 + 1 / 200), rel=0.1)
    assert comparison.excess == pytest.approx(comparison.value, abs=0.02)


@pytest.mark.parametrize(("n", "m"), [(100, 30), (100, 80), (7, 100)])
def test_what_is_compared_has_equal_sizes(n, m):
    asked = []

    def measure(first: np.ndarray, second: np.ndarray) -> float:
        assert len(np.unique(first)) == len(first)
        assert len(np.unique(second)) == len(second)
        assert not set(first) & set(second)
        assert first.max() < n
        asked.append((len(first), len(second), second.min() >= n))
        return 0.0

    compare(n, m, measure, (0,), draws=3)
    size = min(m, n // 2)
    halves, matched, null = (n // 2, m // 2, True), (n - size, size, True), (n - size, size, False)
    assert asked == [halves, matched, null] * 3 + [(n, m, True)]


def test_a_draw_that_cannot_be_measured_leaves_nothing():
    calls = iter([1.0, math.nan, 1.0])
    assert compare(10, 10, lambda first, second: next(calls, 1.0), (0,)) is None


def test_the_same_seed_gives_the_same_draws():
    def measure(first: np.ndarray, second: np.ndarray) -> float:
        return float(first[0])

    one, two, other = (
        compare(50, 20, measure, seed, draws=10) for seed in ((0, 1), (0, 1), (0, 2))
    )
    assert one is not None
    assert two is not None
    assert other is not None
    assert (one.null == two.null).all()
    assert (one.null != other.null).any()


def test_beyond_the_null_is_beyond_each_of_its_draws():
    null = np.array([0.1, 0.2, 0.3])
    assert Comparison(0, 1, np.array([0.2, 0.41]), null).beyond_null
    assert not Comparison(9, 1, np.array([0.2, 0.39]), null).beyond_null


def test_the_average_of_classes():
    one = Comparison(1.0, 0.3, np.array([1.0, 3.0]), np.array([0.0, 0.2]))
    two = Comparison(3.0, 0.4, np.array([2.0, 4.0]), np.array([0.2, 0.2]))
    both = average([one, two])
    assert both.value == 2
    assert both.error == pytest.approx(0.25)
    assert both.matched == pytest.approx([1.5, 3.5])
    assert both.null == pytest.approx([0.1, 0.2])
