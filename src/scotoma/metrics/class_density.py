"""Density of the training data, class by class, as a Gaussian in the space of the leading principal components."""

from __future__ import annotations

import math

import numpy as np

COMPONENTS = 64
FITTED = 100_000
"""Training images that tell the components, evenly spread where there are more, and that are projected at once."""


def class_log_density(
    train: np.ndarray, labels: np.ndarray, queries: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Log density of images under the training images of one class each, mostly the class that it is taken for.

    The features are projected on their first principal components (at most `COMPONENTS`). There each class is a Gaussian with
    its own mean and its own covariance, shrunk after Ledoit and Wolf (2004), so that few images are enough. Beside the distance
    to the nearest training images, which knows neither classes nor directions, it tells how unusual an image is for its class.

    Args:
        train: float32 features (n, d).
        labels: integers (n,), the class of each training image.
        queries: float32 features (m, d).
        classes: integers (m,), under which class to take each query.

    Returns:
        float64 (m,), natural logarithm; NaN for a class without training images.
    """
    from sklearn.covariance import ledoit_wolf
    from sklearn.decomposition import PCA

    components = PCA(min(COMPONENTS, *train.shape), svd_solver="randomized", random_state=0)
    with np.errstate(
        invalid="ignore"
    ):  # features that are all the same have no share of variance to explain
        components.fit(
            train
            if len(train) <= FITTED
            else train[np.linspace(0, len(train) - 1, FITTED, dtype=np.int64)]
        )
    parts = range(0, len(train), FITTED)
    known = np.concatenate(
        [components.transform(train[start : start + FITTED]) for start in parts]
    ).astype(np.float64)
    asked = components.transform(queries).astype(np.float64)
    # nothing beside the data's own variance, but the covariance of a single image needs it
    floor = (1e-6 * known.var(0).mean() + 1e-12) * np.eye(known.shape[1])
    density = np.full(len(queries), np.nan)
    for label in np.unique(classes):
        members = known[labels == label]
        if not len(members):
            continue
        mean = members.mean(0)
        covariance = ledoit_wolf(members - mean, assume_centered=True)[0] if len(members) > 1 else 0
        factor = np.linalg.cholesky(covariance + floor)
        chosen = classes == label
        whitened = np.linalg.solve(factor, (asked[chosen] - mean).T)
        log_volume = np.log(np.diag(factor)).sum() + len(mean) / 2 * math.log(2 * math.pi)
        density[chosen] = -0.5 * (whitened**2).sum(0) - log_volume
    return density
