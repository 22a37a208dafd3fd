import numpy as np
import pytest
import torch

from scotoma.metrics.embedding import ITERATIONS, embed
from scotoma.metrics.neighbours import nearest_others
from scotoma.utils.errors import InputError


@pytest.fixture(scope="module")
def clusters() -> tuple[np.ndarray, np.ndarray]:
    """Three groups of points in ten dimensions, 40 each, far from the origin."""
    labels = np.repeat([0, 1, 2], 40)
    return (1000 + np.random.default_rng(0).normal(6 * labels[:, None], 1, (120, 10))).astype(
        np.float32
    ), labels


def test_neighbours_in_the_plane_are_of_the_same_group_and_progress_is_told(clusters):
    features, labels = clusters
    progress = []
    points = embed(features, perplexity=10, advance=progress.append)
    assert points.shape == (120, 2)
    assert points.dtype == np.float64
    nearest, _ = nearest_others(points.astype(np.float32), 5)
    assert (labels[nearest] == labels[:, None]).mean() > 0.98
    assert sum(progress) == ITERATIONS


def test_the_same_seed_gives_the_same_points_at_any_scale(clusters):
    features, _ = clusters
    first = embed(features, seed=3)
    assert (embed(features * np.float32(2.0**60), seed=3) == first).all()


@pytest.mark.slow
def test_any_number_of_threads_gives_the_same_points(clusters, monkeypatch):
    """On busy cores, threads that wait for each other take very long."""
    features, _ = clusters
    first = embed(features)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert (embed(features) == first).all()


@pytest.mark.parametrize(
    "features",
    [
        np.repeat(np.eye(5), 8, axis=0),
        np.arange(40.0)[:, None],
        np.random.default_rng(0).normal(size=(5, 3)),
    ],
    ids=["duplicates", "one feature", "five points"],
)
def test_odd_features(features):
    points = embed(features.astype(np.float32))
    assert points.shape == (len(features), 2)
    assert np.isfinite(points).all()
    assert points.std(0).max() > 0


def test_features_that_are_all_the_same_stay_in_one_place():
    assert (embed(np.ones((30, 4), np.float32)) == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(value):
    features = np.ones((30, 4), np.float32)
    features[3, 2] = value
    with pytest.raises(InputError, match="NaN or infinite"), np.errstate(invalid="ignore"):
        embed(features)
