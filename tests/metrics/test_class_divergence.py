import numpy as np
import pytest

from scotoma.metrics.class_divergence import by_class, divergence, kde_comparison, shared_classes
from scotoma.metrics.density import kde_divergence
from scotoma.utils.errors import InputError

DRAWS = 19


def groups(sizes: dict[int, int], seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """So many points of each class in six dimensions, the classes far from each other."""
    labels = np.repeat(list(sizes), list(sizes.values()))
    noise = np.random.default_rng(seed).normal(size=(len(labels), 6))
    noise[:, :2] += shift
    return (noise + 12 * np.eye(6)[labels]).astype(np.float32), labels


@pytest.mark.slow
def test_a_test_set_from_the_same_distribution_and_a_moved_one():
    train = groups({0: 120, 1: 120}, seed=0)
    same = divergence(*train, *groups({0: 60, 1: 60}, seed=1), draws=DRAWS)
    moved = divergence(*train, *groups({0: 60, 1: 60}, seed=1, shift=2.5), draws=DRAWS)
    assert not same.mean.beyond_null
    assert moved.mean.beyond_null
    assert moved.mean.value > 3 * same.mean.value
    assert list(moved.knn_kl) == [0, 1]
    assert moved.auc is not None
    assert moved.auc.beyond_null
    assert same.train_points.shape == (240, 2)
    assert same.test_points.shape == (120, 2)
    assert list(same.kl) == [0, 1]
    for label, each in same.kl.items():
        points = (
            same.train_points[train[1] == label],
            same.test_points[np.repeat([0, 1], 60) == label],
        )
        assert each.value == kde_divergence(*points)
        assert len(each.null) == DRAWS
    assert same.mean.value == pytest.approx(np.mean([each.value for each in same.kl.values()]))


def test_the_null_and_the_error_are_those_of_the_sizes_compared():
    rng = np.random.default_rng(0)
    values, nulls, errors = [], [], []
    for seed in range(30):
        comparison = kde_comparison(
            rng.normal(size=(200, 2)), rng.normal(size=(100, 2)), (seed,), draws=DRAWS
        )
        assert comparison is not None
        values.append(comparison.value)
        errors.append(comparison.error)
        nulls.append(comparison.null.mean())
    fresh = [
        kde_divergence(rng.normal(size=(100, 2)), rng.normal(size=(100, 2))) for _ in range(100)
    ]
    assert np.mean(nulls) == pytest.approx(np.mean(fresh), rel=0.12)
    assert np.std(values) < np.mean(errors) < 2 * np.std(values)


def test_classes_that_cannot_be_measured_are_left_out():
    train, train_labels = groups({0: 60, 1: 60, 2: 19, 3: 60, 5: 60}, seed=0)
    test, test_labels = groups({0: 30, 1: 30, 2: 40, 3: 19, 4: 40, 5: 30}, seed=1)
    assert shared_classes(train_labels, test_labels) == [0, 1, 5]
    plane, other = train[:, :2].astype(float), test[:, :2].astype(float)
    plane[train_labels == 1] = 3.0
    done = []
    by_label = by_class(plane, train_labels, other, test_labels, kde_comparison, 0, done.append)
    assert list(by_label) == [0, 5]
    assert sum(done) == 3


def test_nothing_to_measure_is_an_error():
    train, test = groups({0: 60, 1: 10}, seed=0), groups({1: 60, 2: 60}, seed=1)
    with pytest.raises(InputError, match="no class has 20 training and 20 test images"):
        divergence(*train, *test, draws=DRAWS).mean  # noqa: B018


def test_an_embedding_that_is_there_is_not_computed_again():
    train, test = groups({0: 40, 1: 40}, seed=0), groups({0: 30, 1: 30}, seed=1)
    first = divergence(*train, *test, draws=4)
    plane = first.train_points, first.test_points
    repeated = divergence(*train, *test, draws=4, plane=plane)
    assert repeated.train_points is plane[0]
    assert repeated.mean.value == first.mean.value
