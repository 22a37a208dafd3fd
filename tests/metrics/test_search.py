import numpy as np
from scipy.spatial.distance import cdist

from scotoma.metrics.search import nearest_others


def test_brute_force():
    points = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    indices, distances = nearest_others(points, 7)
    exact = cdist(points.astype(float), points.astype(float))
    np.fill_diagonal(exact, np.inf)
    assert (indices == exact.argsort(1)[:, :7]).all()
    np.testing.assert_allclose(distances, np.sort(exact, 1)[:, :7], rtol=1e-4)


def test_a_point_with_many_duplicates_is_not_its_own_neighbour():
    points = np.zeros((30, 3), np.float32)
    indices, distances = nearest_others(points, 5)
    assert (indices != np.arange(30)[:, None]).all()
    assert indices.shape == (30, 5)
    assert (distances == 0).all()
