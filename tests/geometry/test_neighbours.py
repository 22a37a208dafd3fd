import numpy as np
import pytest
from scipy.spatial.distance import cdist

from scotoma.errors import InputError
from scotoma.geometry import neighbours
from scotoma.geometry.neighbours import mean_neighbour_distance


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
    found = mean_neighbour_distance(train, queries, k)
    assert found.dtype == np.float64
    assert found == pytest.approx(brute_force(train, queries, k), rel=1e-6)
    assert doubted == [0], "the costly search is for near duplicates only"


@pytest.mark.parametrize("blocks", [neighbours.BLOCK, (7, 50)])
def test_neighbours_that_the_matrix_product_cannot_tell_apart(blocks, doubted, monkeypatch):
    """Tight clusters far apart: |a|^2 is ten million times the squared distances, beyond the digits of float32."""
    monkeypatch.setattr(neighbours, "BLOCK", blocks)
    monkeypatch.setattr(neighbours, "GATHERED", 1000)
    rng = np.random.default_rng(0)
    centres = np.array([[1000.0], [-1000.0]])
    train, queries = (
        (np.repeat(centres, n, 0) + rng.normal(0, 0.05, (2 * n, 20))).astype(np.float32)[rng.permutation(2 * n)] for n in (300, 40)
    )
    assert mean_neighbour_distance(train, queries) == pytest.approx(brute_force(train, queries, 5), rel=1e-6)
    assert doubted == [80]


def test_more_duplicates_than_candidates():
    rng = np.random.default_rng(0)
    image = rng.normal(3, 1, (1, 30)).astype(np.float32)
    train = np.concatenate([np.repeat(image, 100, 0), rng.normal(3, 1, (50, 30)).astype(np.float32)])
    queries = np.concatenate([image, image + np.float32(1e-3)])
    assert mean_neighbour_distance(train, queries) == pytest.approx(brute_force(train, queries, 5), rel=1e-6)


def test_a_training_image_is_at_distance_zero():
    train = np.random.default_rng(0).uniform(50, 51, (300, 64)).astype(np.float32)
    assert (mean_neighbour_distance(train, train[:50], 1) == 0).all()


def test_fewer_training_images_than_neighbours():
    train = np.array([[0.0, 0.0], [3.0, 4.0]], np.float32)
    assert mean_neighbour_distance(train, np.zeros((1, 2), np.float32), 5).tolist() == [2.5]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("where", ["train", "queries"])
def test_features_that_have_no_distance(value, where):
    features = {"train": np.zeros((30, 3), np.float32), "queries": np.zeros((4, 3), np.float32)}
    features[where][2, 1] = value
    with pytest.raises(InputError, match="features reach"):
        mean_neighbour_distance(features["train"], features["queries"])
