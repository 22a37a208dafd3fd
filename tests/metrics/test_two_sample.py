import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from scotoma.metrics.two_sample import (
    Neighbours,
    _area,
    classifier_comparison,
    intrinsic_dimension,
    knn_comparison,
    knn_divergence,
    two_sample_auc,
)


def gaussian(n: int, d: int, shift: float = 0.0, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, n, d]).normal(shift, scale, (n, d)).astype(np.float32)


def brute_force(first: np.ndarray, second: np.ndarray, dimension: float, k: int = 5) -> float:
    """The estimator as printed, from all distances in double precision."""
    within, across = (cdist(first.astype(float), other.astype(float)) for other in (first, second))
    np.fill_diagonal(within, np.inf)
    rho, nu = np.sort(within, 1)[:, k - 1], np.sort(across, 1)[:, k - 1]
    return dimension * float(np.log(nu / rho).mean()) + math.log(len(second) / (len(first) - 1))


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_brute_force_on_all_points_and_on_parts(offset):
    train, test = (
        gaussian(200, 6) + np.float32(offset),
        gaussian(90, 6, 0.3, 1.2) + np.float32(offset),
    )
    points = np.concatenate([train, test])
    near = Neighbours.find(train, test)
    rng = np.random.default_rng(0)
    parts = [(np.arange(200), np.arange(200, 290))]
    for _ in range(3):
        order = rng.permutation(200)
        parts += [(order[:100], 200 + rng.permutation(90)[:45]), (order[90:], order[:90])]
    for first, second in parts:
        expected = brute_force(points[first], points[second], near.dimension)
        assert near.divergence(first, second) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("d", "shift", "scale"), [(1, 0.0, 1.0), (2, 1.0, 1.0), (3, 0.5, 1.5)])
def test_two_gaussians(d, shift, scale):
    closed = d * (math.log(scale) + (1 + shift**2) / (2 * scale**2) - 0.5)
    near = Neighbours.find(
        gaussian(3000, d), gaussian(2000, d, shift, scale, seed=1), counts=(20, 20)
    )
    divergence = near.divergence(np.arange(3000), np.arange(3000, 5000))
    assert divergence == pytest.approx(closed, abs=0.15)


def test_features_on_a_plane_in_space_count_as_two_dimensional():
    plane = np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32)
    train, test = gaussian(1000, 2), gaussian(800, 2, 1.0, seed=1)
    flat, embedded = (
        Neighbours.find(*pair, counts=(20, 20))
        for pair in ((train, test), (train @ plane, test @ plane))
    )
    assert embedded.dimension == pytest.approx(2, rel=0.05)
    values = [near.divergence(np.arange(1000), np.arange(1000, 1800)) for near in (flat, embedded)]
    assert values == pytest.approx([1, 1], abs=0.2)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_dimension_of_a_cube(d):
    points = np.random.default_rng(0).uniform(size=(2000, d))
    distances = np.sort(cdist(points, points), 1)[:, 1:40]
    assert intrinsic_dimension(distances) == pytest.approx(d, rel=0.12)


def test_neighbours_kept_are_enough_for_all_draws():
    train, test = gaussian(300, 4), gaussian(60, 4)
    comparison = knn_comparison(train, test, (3,), draws=20)
    assert comparison is not None
    near = Neighbours.find(train, test)
    rng = np.random.default_rng((3,))
    for i in range(20):
        ours, theirs = rng.permutation(300), 300 + rng.permutation(60)
        assert comparison.matched[i] == pytest.approx(near.divergence(ours[60:], theirs), abs=2e-3)
        assert comparison.null[i] == pytest.approx(near.divergence(ours[60:], ours[:60]), abs=2e-3)


def test_the_same_distribution_and_another():
    train = gaussian(600, 8)
    same, other = (knn_comparison(train, gaussian(200, 8, shift, seed=1)) for shift in (0, 0.8))
    assert same is not None
    assert other is not None
    assert not same.beyond_null
    assert same.low < 0 < same.high
    assert other.beyond_null
    assert other.low > same.high


def test_duplicates_do_not_make_it_infinite():
    train, test = gaussian(300, 4), gaussian(100, 4, seed=1)
    plain = knn_comparison(train, test)
    copies = knn_comparison(
        np.concatenate([train, train[:40], train[:40]]), np.concatenate([test, train[:20]])
    )
    assert plain is not None
    assert copies is not None
    assert copies.value == pytest.approx(plain.value, abs=0.4)


@pytest.mark.parametrize(("n", "m"), [(30, 30), (3, 30), (30, 3), (1, 30), (30, 1)])
def test_too_few_points_that_differ(n, m):
    same = np.ones((max(n, m), 4), np.float32)
    assert knn_comparison(same[:n], same[:m]) is None
    if min(n, m) < 5:
        assert knn_comparison(gaussian(n, 4), gaussian(m, 4)) is None


def test_a_much_larger_sample_is_cut_down():
    comparison = knn_comparison(gaussian(2000, 3), gaussian(25, 3, seed=1), draws=5)
    assert comparison is not None
    assert comparison.value == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("shift", [0.0, 0.6, 2.0])
def test_the_area_between_two_gaussians(shift):
    first, second = gaussian(800, 5), gaussian(800, 5, seed=1)
    second[:, 2] += shift
    assert two_sample_auc(first, second) == pytest.approx(norm.cdf(shift / math.sqrt(2)), abs=0.035)


def test_a_classifier_tells_a_moved_test_set_and_not_another_draw():
    progress = []
    train = gaussian(900, 30) * np.geomspace(1e-3, 1e3, 30, dtype=np.float32)
    test = gaussian(300, 30, seed=1) * np.geomspace(1e-3, 1e3, 30, dtype=np.float32)
    same = classifier_comparison(train, test, draws=19, advance=progress.append)
    assert sum(progress) == 20
    assert same.low < 0.5 < same.high
    assert not same.beyond_null
    assert same.null.mean() == pytest.approx(0.5, abs=0.03)
    test[:, 3] += test[:, 3].std()
    moved = classifier_comparison(train, test, draws=19)
    assert moved.beyond_null
    assert moved.low > 0.5
    assert moved.value == pytest.approx(norm.cdf(1 / math.sqrt(2)), abs=0.08)


def test_features_that_are_all_the_same_tell_nothing():
    comparison = classifier_comparison(
        np.ones((30, 3), np.float32), np.ones((20, 3), np.float32), draws=3
    )
    assert comparison.value == 0.5
    assert (comparison.null == 0.5).all()


def test_the_divergence_of_all_points_is_the_value_of_the_comparison():
    train, test = gaussian(200, 3), gaussian(90, 3, 1.0)
    comparison = knn_comparison(train, test, draws=3)
    assert comparison is not None
    assert knn_divergence(train, test) == comparison.value


def test_the_area_is_that_of_scikit_learn_with_ties_and_without():
    draw = np.random.default_rng(0)
    for low, high in (draw.normal(size=(2, 40)), draw.integers(0, 3, (2, 40)).astype(float)):
        labels, scores = np.repeat([0, 1], 40), np.concatenate([low, high])
        assert _area(low, high) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
