import numpy as np
import pytest
from scipy.spatial.distance import cdist

from scotoma.geometry.neighbours import mean_neighbour_distance


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_brute_force(k, offset):
    """Far from the origin the expansion of |a - b|^2 loses its digits; the result must not."""
    rng = np.random.default_rng(0)
    train, queries = (rng.normal(offset, 1, (n, 20)).astype(np.float32) for n in (2000, 1100))
    expected = np.sort(cdist(queries.astype(np.float64), train.astype(np.float64)), 1)[:, :k].mean(1)
    found = mean_neighbour_distance(train, queries, k)
    assert found.dtype == np.float64
    assert found == pytest.approx(expected, rel=1e-4 if offset else 1e-6)


def test_a_training_image_is_at_distance_zero():
    train = np.random.default_rng(0).uniform(50, 51, (300, 64)).astype(np.float32)
    assert (mean_neighbour_distance(train, train[:50], 1) == 0).all()


def test_fewer_training_images_than_neighbours():
    train = np.array([[0.0, 0.0], [3.0, 4.0]], np.float32)
    assert mean_neighbour_distance(train, np.zeros((1, 2), np.float32), 5).tolist() == [2.5]
