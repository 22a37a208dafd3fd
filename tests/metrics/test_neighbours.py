import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from scotoma.metrics import neighbours
from scotoma.metrics.neighbours import nearest_distance, nearest_others
from scotoma.utils.errors import InputError


def brute_force(train: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    return np.sort(cdist(queries.astype(np.float64), train.astype(np.float64)), 1)[:, :k].mean(1)


@pytest.fixture
def doubted(monkeypatch) -> list[int]:
    """How many queries each search took to double precision."""
    counts = []
    search = neighbours._candidates_in_double

    def counted(train, queries, centre, kept):
        counts.append(len(queries))
        return search(train, queries, centre, kept)

    monkeypatch.setattr(neighbours, "_candidates_in_double", counted)
    return counts


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_brute_force(k, offset, doubted):
    """Far from the origin the expansion of |a - b|^2 loses its digits; the result must not."""
    rng = np.random.default_rng(0)
    train, queries = (rng.normal(offset, 1, (n, 20)).astype(np.float32) for n in (2000, 1100))
    distances = nearest_distance(train, queries, k)
    assert distances.dtype == np.float64
    assert distances == pytest.approx(brute_force(train, queries, k), rel=1e-6)
    assert doubted == [0], "the costly search is for near duplicates only"


@pytest.mark.parametrize("blocks", [neighbours.BLOCK, (7, 50)])
def test_neighbours_that_the_matrix_product_cannot_tell_apart(blocks, doubted, monkeypatch):
    """Tight clusters far apart: |a|^2 is ten million times the squared distances."""
    monkeypatch.setattr(neighbours, "BLOCK", blocks)
    monkeypatch.setattr(neighbours, "GATHERED", 1000)
    rng = np.random.default_rng(0)
    centres = np.array([[1000.0], [-1000.0]])
    train, queries = (
        (np.repeat(centres, n, 0) + rng.normal(0, 0.05, (2 * n, 20))).astype(np.float32)[
            rng.permutation(2 * n)
        ]
        for n in (300, 40)
    )
    assert nearest_distance(train, queries) == pytest.approx(
        brute_force(train, queries, 5), rel=1e-6
    )
    assert doubted == [80]


@pytest.mark.parametrize("spread", [1.0, 1e-4])
def test_blocks_as_they_come_give_what_the_whole_gives(spread, monkeypatch):
    """Blocks contain near duplicates, and some have fewer than k points."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 10, (30, 12))
    train, queries = (
        (centres[rng.integers(30, size=n)] + rng.normal(0, spread, (n, 12))).astype(np.float32)
        for n in (900, 70)
    )
    train[500:520] = train[:20]
    ends = [0, 3, 4, 200, 640, 900]
    parts = (train[start:end] for start, end in pairwise(ends))
    expected = pytest.approx(brute_force(train, queries, 5), rel=1e-6)
    assert nearest_distance(parts, queries) == expected
    monkeypatch.setattr(neighbours, "AT_ONCE", 12 * 100)
    assert nearest_distance(train, queries) == expected
    assert nearest_distance(iter([train]), queries) == expected, "a block too large is cut"


def test_blocks_that_are_too_far_are_not_measured(monkeypatch):
    exact = []
    measure = neighbours.candidate_distances

    def counted(train, queries, candidates):
        exact.append(len(queries))
        return measure(train, queries, candidates)

    monkeypatch.setattr(neighbours, "candidate_distances", counted)
    rng = np.random.default_rng(0)
    near, far, queries = (rng.normal(size, 1, (100, 8)).astype(np.float32) for size in (0, 50, 0))
    nearest_distance([near, far], queries)
    assert exact == [100, 0, 0, 0], "each block, and what the product leaves open"


def test_memory_does_not_grow_with_the_training_set():
    """Beyond the queries: a block, and the same centred."""
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(10, 64)).astype(np.float32)
    block = rng.normal(size=(5000, 64)).astype(np.float32)

    def most(blocks: int) -> int:
        tracemalloc.start()
        nearest_distance((block + np.float32(i) for i in range(blocks)), queries)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert most(20) < 1.1 * most(2) < 5 * block.nbytes


def test_more_duplicates_than_candidates():
    rng = np.random.default_rng(0)
    image = rng.normal(3, 1, (1, 30)).astype(np.float32)
    train = np.concatenate(
        [np.repeat(image, 100, 0), rng.normal(3, 1, (50, 30)).astype(np.float32)]
    )
    queries = np.concatenate([image, image + np.float32(1e-3)])
    assert nearest_distance(train, queries) == pytest.approx(
        brute_force(train, queries, 5), rel=1e-6
    )


def test_a_training_image_is_at_distance_zero():
    train = np.random.default_rng(0).uniform(50, 51, (300, 64)).astype(np.float32)
    assert (nearest_distance(train, train[:50], 1) == 0).all()


def test_fewer_training_images_than_neighbours():
    train = np.array([[0.0, 0.0], [3.0, 4.0]], np.float32)
    assert nearest_distance(train, np.zeros((1, 2), np.float32), 5).tolist() == [2.5]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("where", ["train", "queries"])
def test_features_that_have_no_distance(value, where):
    features = {"train": np.zeros((30, 3), np.float32), "queries": np.zeros((4, 3), np.float32)}
    features[where][2, 1] = value
    with pytest.raises(InputError, match="features reach"):
        nearest_distance(features["train"], features["queries"])


def test_nearest_other_points_are_those_of_brute_force():
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


@pytest.mark.parametrize("p", [1.0, 3.0, np.inf])
def test_another_norm_is_searched_in_blocks(p, monkeypatch):
    monkeypatch.setattr(neighbours, "GATHERED", 2000)
    random = np.random.default_rng(0)
    train, test = random.normal(size=(300, 7)), random.normal(size=(40, 7))

    def brute(train: np.ndarray, k: int) -> np.ndarray:
        distances = np.linalg.norm(test[:, None] - train[None], p, axis=2)
        return np.sort(distances, 1)[:, :k].mean(1)

    distances = nearest_distance(iter(np.array_split(train, 3)), test, 4, p)
    assert distances == pytest.approx(brute(train, 4), rel=1e-5)
    assert nearest_distance(train[:2], test, 4, p) == pytest.approx(brute(train[:2], 2), rel=1e-5)


def test_features_of_unit_length_do_not_know_the_length():
    random = np.random.default_rng(0)
    train, test = random.normal(size=(300, 7)), random.normal(size=(40, 7))
    longer = test * random.uniform(1, 9, (40, 1))
    distances = nearest_distance(train, longer, 3, unit=True)
    assert distances == pytest.approx(nearest_distance(train, test, 3, unit=True), rel=1e-4)
    near, far = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
    assert distances == pytest.approx(brute_force(near, far, 3), rel=1e-4)
