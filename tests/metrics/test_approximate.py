import numpy as np
import pytest
from scipy.spatial.distance import cdist

from scotoma.metrics import approximate
from scotoma.metrics.approximate import nearest_neighbours
from scotoma.metrics.neighbours import nearest_distance
from scotoma.utils.errors import InputError


@pytest.fixture(autouse=True)
def early(monkeypatch) -> None:
    """The index takes over at sizes that tests can pay."""
    monkeypatch.setattr(approximate, "EXACT", 1000)
    monkeypatch.setattr(approximate, "FEW", 100)


@pytest.fixture
def clustered() -> tuple[np.ndarray, np.ndarray]:
    """6,000 training points and 400 queries, each near one of 40 centres, far from the origin."""
    rng = np.random.default_rng(0)
    centres = rng.normal(50, 3, (40, 16))
    train, queries = (
        (centres[rng.integers(40, size=n)] + rng.normal(0, 1, (n, 16))).astype(np.float32)
        for n in (6000, 400)
    )
    return train, queries


def shares(train: np.ndarray, queries: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """How much larger the mean distances are than those of brute force."""
    return (
        nearest
        / np.sort(cdist(queries.astype(np.float64), train.astype(np.float64)), 1)[:, :5].mean(1)
        - 1
    )


def test_clusters_are_searched_by_an_index_whose_recall_is_stated(clustered):
    train, queries = clustered
    nearest = nearest_neighbours(train, queries)
    assert nearest.recall is not None
    assert 0.95 <= nearest.recall.low <= nearest.recall.value <= nearest.recall.high <= 1
    assert nearest.recall.n == 300
    excess = shares(train, queries, nearest.distance)
    assert excess.min() > -1e-6, "what is missed makes a distance larger"
    assert excess.mean() < 0.01
    exact = np.mean(abs(excess) < 1e-6)
    assert exact == pytest.approx(1, abs=0.2)
    assert exact >= 1 - 5 * (1 - nearest.recall.low), (
        "one missed neighbour of five changes a query's mean"
    )


def test_the_recall_stated_is_that_of_the_search(clustered, monkeypatch):
    """One cell of many for each query misses neighbours, and the recall says how many."""
    train, queries = clustered
    for name, value in {"FIRST": 1, "RECALL": 0.0, "SAMPLE": 400}.items():
        monkeypatch.setattr(approximate, name, value)
    nearest = nearest_neighbours(train, queries, 1)
    assert nearest.recall is not None
    truth = nearest_distance(train, queries, 1)
    assert nearest.recall.value == pytest.approx(np.mean(nearest.distance <= truth * (1 + 1e-6)))
    assert 0.3 < nearest.recall.value < 0.99


def test_cells_are_added_until_recall_is_enough(clustered, monkeypatch):
    train, queries = clustered
    monkeypatch.setattr(approximate, "FIRST", 1)
    nearest = nearest_neighbours(train, queries)
    assert nearest.recall is not None
    assert nearest.recall.low >= 0.95


def test_without_clusters_search_is_exact():
    rng = np.random.default_rng(0)
    train, queries = (rng.normal(size=(n, 100)).astype(np.float32) for n in (4000, 200))
    nearest = nearest_neighbours(train, queries)
    assert nearest.recall is None
    assert (nearest.distance == nearest_distance(train, queries)).all()


@pytest.mark.parametrize(("points", "asked"), [(1000, 400), (6000, 100)])
def test_search_is_exact_up_to_the_stated_numbers(clustered, points, asked):
    train, queries = clustered[0][:points], clustered[1][:asked]
    nearest = nearest_neighbours(train, queries)
    assert nearest.recall is None
    assert (nearest.distance == nearest_distance(train, queries)).all()


def test_cells_with_fewer_points_than_neighbours(clustered, monkeypatch):
    """A point far from all others has its own cell; queries near it get all neighbours."""
    train, queries = clustered
    rng = np.random.default_rng(1)
    lonely = np.full((3, 16), 500, np.float32)
    train = np.concatenate([lonely, train])
    queries[:5] = lonely[0] + rng.normal(0, 1, (5, 16))
    monkeypatch.setattr(approximate, "FIRST", 1)
    monkeypatch.setattr(approximate, "RECALL", 0.0)
    monkeypatch.setattr(approximate, "POINTS_A_CELL", 20)
    queried = []
    search = approximate.nearest_distances
    monkeypatch.setattr(
        approximate,
        "nearest_distances",
        lambda *arguments: queried.append(len(arguments[1])) or search(*arguments),
    )
    nearest = nearest_neighbours(train, queries)
    assert queried[0] == 300, "for the recall"
    assert 5 <= queried[1] <= 100, "what an index does not find is searched exactly"
    assert nearest.recall is not None
    assert np.isfinite(nearest.distance).all()
    assert shares(train, queries, nearest.distance)[:5] == pytest.approx(0, abs=1e-5)


def test_duplicates_count_as_found():
    """Which of two equal points is found is nothing that recall could speak of."""
    rng = np.random.default_rng(0)
    points = rng.normal(0, 5, (30, 8)).astype(np.float32)
    train, queries = np.repeat(points, 100, 0), np.repeat(points, 5, 0)
    nearest = nearest_neighbours(train, queries)
    assert nearest.recall is not None
    assert nearest.recall.value == 1
    assert nearest.recall.low < 1, "150 queries do not prove it"
    assert (nearest.distance == 0).all()


def test_the_same_answer_again_and_from_a_memory_map(clustered, tmp_path):
    train, queries = clustered
    np.save(tmp_path / "train.npy", train)
    mapped = np.load(tmp_path / "train.npy", mmap_mode="r")
    first, repeated = nearest_neighbours(train, queries), nearest_neighbours(mapped, queries)
    assert first.recall == repeated.recall
    assert (first.distance == repeated.distance).all()


@pytest.mark.parametrize("where", [0, 1])
def test_features_that_have_no_distance(clustered, where):
    clustered[where][7, 3] = np.nan
    with pytest.raises(InputError, match="features reach"):
        nearest_neighbours(*clustered)
