"""Distance to the training data (Zhang et al. 2019, section 3.1)."""

from __future__ import annotations

import numpy as np

from scotoma.errors import InputError

ROUNDING = 2.0**-24
"""Unit roundoff of float32."""
LARGEST = 1e15
"""Of a feature: beyond it squares no longer fit into float32."""
GATHERED = 2**23
"""Values held at once when distances are taken from differences."""
BLOCK = (256, 8192)
"""Queries and training points at once in the search in double precision."""


def mean_neighbour_distance(train: np.ndarray, queries: np.ndarray, k: int = 5) -> np.ndarray:
    """Equation 2 of Zhang et al. 2019 with p = 2: the mean Euclidean distance to the k nearest training points.

    Exact search over the whole training set, not by class. A float32 matrix product finds candidates, their distances are
    taken again from the differences, and a bound on the rounding of the product proves that no other point is nearer. The few
    queries without that proof (near duplicates) are searched in double precision.

    Args:
        train: float32 features (n, d).
        queries: float32 features (m, d).
        k: neighbours; at most n.

    Returns:
        float64 (m,), in units of the features.

    Raises:
        InputError: features are NaN, infinite or too large.
    """
    import faiss

    largest = np.max([(values.max(), -values.min()) for values in (train, queries)])
    if not largest < LARGEST:  # NaN fails this as well
        raise InputError(f"features reach {largest:g}, too large to measure distances; choose another --layer")
    k, kept = min(k, len(train)), min(2 * k + 6, len(train))
    centre = train.mean(0, dtype=np.float64).astype(np.float32)
    centred = queries - centre  # distances stay, and what cancels in |a|^2 - 2ab + |b|^2 becomes small
    estimates, candidates = faiss.knn(centred, train - centre, kept)
    nearest = _from_differences(train, queries, candidates, k)
    if kept < len(train):
        # A point farther out than |q| + r cannot lie within r of q. For every other one the product rounds the square by less
        # than (d + a few) u (2|q| + r)^2, whatever the order of its sums; twice that covers the centring and r itself.
        reach = 2 * np.linalg.norm(centred, axis=1) + nearest[:, -1]
        error = 2 * (train.shape[1] + 8) * ROUNDING * reach**2
        unproven = np.flatnonzero(nearest[:, -1] ** 2 > estimates[:, -1] - error)
        again = _candidates_in_double(train, queries[unproven], centre, kept)
        nearest[unproven] = _from_differences(train, queries[unproven], again, k)
    return nearest.mean(1)


def _from_differences(train: np.ndarray, queries: np.ndarray, candidates: np.ndarray, k: int) -> np.ndarray:
    """The k smallest distances (m, k) to each query's candidates (m, kept), ascending, float64."""
    nearest = np.empty((len(queries), k))
    block = max(1, GATHERED // (candidates.shape[1] * train.shape[1]))
    for start in range(0, len(queries), block):
        here = slice(start, start + block)
        distances = np.linalg.norm(train[candidates[here]] - queries[here, None], axis=2)
        nearest[here] = np.sort(distances, axis=1)[:, :k]
    return nearest


def _candidates_in_double(train: np.ndarray, queries: np.ndarray, centre: np.ndarray, kept: int) -> np.ndarray:
    """Indices (m, kept) of the nearest training points by a float64 matrix product."""
    found = np.empty((len(queries), kept), np.int64)
    many, wide = BLOCK
    for start in range(0, len(queries), many):
        block = queries[start : start + many].astype(np.float64) - centre
        squares = np.empty((len(block), 0))
        indices = np.empty((len(block), 0), np.int64)
        for first in range(0, len(train), wide):
            points = train[first : first + wide].astype(np.float64) - centre
            here = np.broadcast_to(np.arange(first, first + len(points)), (len(block), len(points)))
            squares = np.hstack([squares, (points**2).sum(1) - 2 * block @ points.T])  # |q|^2 is the same for all
            indices = np.hstack([indices, here])
            if squares.shape[1] > kept:
                best = np.argpartition(squares, kept - 1, axis=1)[:, :kept]
                squares, indices = (np.take_along_axis(held, best, axis=1) for held in (squares, indices))
        found[start : start + many] = indices
    return found
