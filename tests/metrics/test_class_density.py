import numpy as np
import pytest
from scipy.stats import multivariate_normal

from scotoma.metrics.density import class_log_density

RNG_SEED = 0


def gaussians(n: int) -> tuple[np.ndarray, np.ndarray, list]:
    """Images of two classes from known Gaussians in 6 dimensions, and these."""
    rng = np.random.default_rng(RNG_SEED)
    densities = []
    for mean in (np.zeros(6), np.full(6, 2.0)):
        mixing = rng.normal(size=(6, 6)) + 2 * np.eye(6)
        densities.append(multivariate_normal(mean, mixing @ mixing.T))  # type: ignore[arg-type]
    train = np.concatenate([gaussian.rvs(n, random_state=rng) for gaussian in densities]).astype(
        np.float32
    )
    return train, np.repeat([0, 1], n), densities


def test_the_density_of_known_gaussians():
    train, labels, densities = gaussians(20_000)
    queries = train[::400]
    for label in (0, 1):
        density = class_log_density(train, labels, queries, np.full(len(queries), label))
        assert density == pytest.approx(densities[label].logpdf(queries), rel=0.05, abs=0.1)


def test_each_image_is_taken_under_its_own_class():
    train, labels, _ = gaussians(500)
    queries, classes = train[::50], np.arange(20) % 2
    apart = [class_log_density(train, labels, queries, np.full(20, label)) for label in (0, 1)]
    assert class_log_density(train, labels, queries, classes) == pytest.approx(
        np.where(classes == 0, *apart)
    )


def test_fewer_images_than_dimensions():
    """A covariance of few images has no inverse without its shrinkage."""
    rng = np.random.default_rng(RNG_SEED)
    train = rng.normal(size=(40, 300)).astype(np.float32)
    near, far = train[:5] + np.float32(0.01), train[:5] + np.float32(3)
    classes = np.zeros(5, int)
    labels = np.arange(40) % 4
    assert (
        class_log_density(train, labels, near, classes)
        > class_log_density(train, labels, far, classes)
    ).all()


def test_classes_of_one_image_and_of_none():
    train, labels, _ = gaussians(50)
    labels[0] = 7
    density = class_log_density(train, labels, train[:3], np.array([7, 0, 8]))
    assert np.isfinite(density).tolist() == [True, True, False]


def test_features_that_are_all_the_same():
    train = np.ones((30, 4), np.float32)
    assert np.isfinite(
        class_log_density(train, np.zeros(30, int), train[:2], np.zeros(2, int))
    ).all()
