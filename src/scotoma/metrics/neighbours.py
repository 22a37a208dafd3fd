"""Distance to the training data (Zhang et al. 2019, section 3.1), by exact search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scotoma.utils.errors import InputError
from scotoma.utils.optional import require

ROUNDING = 2.0**-24
"""Unit roundoff of float32."""
LARGEST = 1e15
"""Largest feature: the squares of larger ones do not fit into float32."""
AT_ONCE = 2**25
"""Values of training features searched at once."""
GATHERED = 2**23
"""Values in memory at once when distances are computed from differences."""
BLOCK = (256, 8192)
"""Queries and training points at once in the search in double precision."""


Features = np.ndarray | Tensor | Iterable[np.ndarray]
"""Features (n, d) in memory, or blocks of them."""


def nearest_distance(
    train: Features,
    test: np.ndarray | Tensor,
    k: int = 5,
    p: float = 2.0,
    *,
    unit: bool = False,
) -> np.ndarray:
    """Return the mean distance of each test feature to its k nearest training features.

    The search is exact and covers the whole training set, not one class.

    Args:
        train: features (n, d), an array or CPU tensor; or blocks of them, one after the other.
        test: features (m, d), an array or CPU tensor.
        k: neighbours; n where there are fewer.
        p: order of the norm, at least 1; `math.inf` is the largest difference.
        unit: divide every feature vector by its Euclidean length first. A network with long
            features for images that it is sure of puts these far from all others; directions do
            not depend on it.

    Returns:
        float64 (m,), in units of the features.

    Raises:
        InputError: features are NaN, infinite or too large.

    Source: Zhang et al. 2019, equation 2; the paper has k = 5, p = 2 and the lengths as they are.

    >>> train, test = np.array([[0.0], [1], [3]]), np.array([[0.0], [5]])
    >>> nearest_distance(train, test, k=2).tolist()
    [0.5, 3.0]
    """
    if unit:
        train, test = map(unit_length, blocks(train)), unit_length(np.asarray(test))
    return nearest_distances(train, test, k, p).mean(1)


def unit_length(features: np.ndarray) -> np.ndarray:
    """Return features (n, d) divided by their Euclidean lengths, float32; zeros stay zeros.

    >>> unit_length(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(features, np.where(length > 0, length, 1), dtype=np.float32)


def nearest_distances(
    train: Features, queries: np.ndarray | Tensor, k: int, p: float = 2.0
) -> np.ndarray:
    """Return the distances to the k nearest training points, exact.

    Training points are read once, in blocks, so memory holds the queries and one block. A float32
    matrix product proposes candidates, whose distances are computed again from differences. A
    bound on the rounding of the product then proves that no other point is nearer. Queries without
    this proof (near duplicates) are searched in double precision.

    Args:
        train, queries, k, p: see `nearest_distance`; a memory map will do.

    Returns:
        float64 (m, k), ascending, in units of the features.

    Raises:
        InputError: features are NaN, infinite or too large.
    """
    queries = np.asarray(queries, np.float32)
    check(queries)
    nearest, count = np.full((len(queries), k), np.inf), 0
    for block in blocks(train):
        check(block)
        nearest = (_nearest_with if p == 2 else partial(_nearest_in, p))(block, queries, nearest)
        count += len(block)
    return nearest[:, : min(k, count)]


def nearest_others(points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest other points of each point, the nearest first.

    A point is never its own neighbour, however many duplicates it has.

    Args:
        points: float32 (n, d).
        k: at most n - 1.

    Returns:
        Indices int64 (n, k) and distances float32 (n, k), rounded as in a float32 matrix product.
    """
    squares, indices = _faiss().knn(points, points, k + 1)
    itself = indices == np.arange(len(points))[:, None]
    itself[~itself.any(1), -1] = True  # crowded out by its duplicates
    shape = (len(points), k)
    return indices[~itself].reshape(shape), np.sqrt(squares[~itself].clip(min=0)).reshape(shape)


def blocks(train: Features) -> Iterator[np.ndarray]:
    """Yield features (n, d) in float32 blocks of at most `AT_ONCE` values, cutting larger ones."""
    for array in [train] if isinstance(train, np.ndarray | Tensor) else train:
        rows = max(1, AT_ONCE // array.shape[1])
        for start in range(0, len(array), rows):
            yield np.asarray(array[start : start + rows], np.float32)


def check(values: np.ndarray) -> None:
    """Raise `InputError` where features are too large for distances."""
    largest = max(values.max(), -values.min())
    if not largest < LARGEST:  # NaN fails this as well
        raise InputError(
            f"features reach {largest:g}, too large to measure distances; choose another layer"
        )


def proposals(k: int) -> int:
    """Return how many candidates a search in rounded numbers proposes for the k nearest."""
    return 2 * k + 6


def candidate_distances(
    train: np.ndarray, queries: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """Return float64 distances (m, c) from each query to its candidates, by differences.

    Args:
        train, queries: float32 features (n, d) and (m, d).
        candidates: rows of `train` (m, c); the distance to row -1 is infinite.
    """
    distances = np.empty(candidates.shape)
    block = max(1, GATHERED // (candidates.shape[1] * train.shape[1]))
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        distances[rows] = np.linalg.norm(train[candidates[rows]] - queries[rows, None], axis=2)
    distances[candidates < 0] = np.inf
    return distances


def _nearest_with(train: np.ndarray, queries: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Merge a block of training points into the smallest distances so far (m, k), ascending."""
    count = min(proposals(nearest.shape[1]), len(train))
    centre = train.mean(0, dtype=np.float64).astype(np.float32)
    # Centring keeps the distances and makes what cancels in |a|^2 - 2ab + |b|^2 small.
    centred = queries - centre
    estimates, candidates = _faiss().knn(centred, train - centre, count)
    lengths = np.linalg.norm(centred, axis=1)

    def error(radius: np.ndarray) -> np.ndarray:
        # A point farther out than |q| + r cannot lie within r of q. For every other point the
        # product rounds the square by less than (d + a few) u (2|q| + r)^2, in any order of its
        # sums; twice that covers the centring and r itself.
        return 2 * (train.shape[1] + 8) * ROUNDING * (2 * lengths + radius) ** 2

    def nearer(rows: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        distances = np.hstack(
            [nearest[rows], candidate_distances(train, queries[rows], candidates)]
        )
        return np.sort(distances, axis=1)[:, : nearest.shape[1]]

    merged, farthest = nearest.copy(), nearest[:, -1]
    within = np.flatnonzero(estimates[:, 0] <= farthest**2 + error(farthest))
    merged[within] = nearer(within, candidates[within])
    if count < len(train):
        after = merged[:, -1]
        unproven = np.flatnonzero(after**2 > estimates[:, -1] - error(after))
        candidates = _candidates_in_double(train, queries[unproven], centre, count)
        merged[unproven] = nearer(unproven, candidates)
    return merged


def _nearest_in(
    p: float, train: np.ndarray, queries: np.ndarray, nearest: np.ndarray
) -> np.ndarray:
    """Merge a block of training points into the smallest distances in another norm."""
    k, points = nearest.shape[1], torch.from_numpy(train)
    rows, merged = max(1, GATHERED // len(train)), []
    for start in range(0, len(queries), rows):
        batch = torch.from_numpy(queries[start : start + rows])
        distances = torch.cdist(batch, points, p).topk(min(k, len(points)), largest=False).values
        candidates = np.hstack([nearest[start : start + rows], distances.numpy()])
        merged.append(np.sort(candidates, axis=1)[:, :k])
    return np.concatenate([nearest[:0], *merged])


def _candidates_in_double(
    train: np.ndarray, queries: np.ndarray, centre: np.ndarray, count: int
) -> np.ndarray:
    """Return indices (m, count) of the nearest training points by a float64 matrix product."""
    candidates = np.empty((len(queries), count), np.int64)
    query_rows, train_rows = BLOCK
    for start in range(0, len(queries), query_rows):
        block = queries[start : start + query_rows].astype(np.float64) - centre
        squares = np.empty((len(block), 0))
        indices = np.empty((len(block), 0), np.int64)
        for first in range(0, len(train), train_rows):
            points = train[first : first + train_rows].astype(np.float64) - centre
            here = np.broadcast_to(np.arange(first, first + len(points)), (len(block), len(points)))
            # |q|^2 is omitted: it is equal for all points.
            squares = np.hstack([squares, (points**2).sum(1) - 2 * block @ points.T])
            indices = np.hstack([indices, here])
            if squares.shape[1] > count:
                smallest = np.argpartition(squares, count - 1, axis=1)[:, :count]
                squares = np.take_along_axis(squares, smallest, axis=1)
                indices = np.take_along_axis(indices, smallest, axis=1)
        candidates[start : start + query_rows] = indices
    return candidates


def _faiss() -> Any:
    return require("faiss", "exact nearest-neighbour search")
