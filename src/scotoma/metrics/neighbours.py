"""Distance to the training data (Zhang et al. 2019, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from scotoma.utils.errors import InputError

ROUNDING = 2.0**-24
"""Unit roundoff of float32."""
LARGEST = 1e15
"""Of a feature: beyond it squares no longer fit into float32."""
HELD = 2**25
"""Values of training features searched at once."""
GATHERED = 2**23
"""Values held at once when distances are taken from differences."""
BLOCK = (256, 8192)
"""Queries and training points at once in the search in double precision."""


def mean_neighbour_distance(
    train: np.ndarray | Iterable[np.ndarray], queries: np.ndarray, k: int = 5
) -> np.ndarray:
    """Equation 2 of Zhang et al. 2019 with p = 2: the mean Euclidean distance to the k nearest training points.

    Exact search over the whole training set, not by class; see `nearest_distances`.

    Returns:
        float64 (m,), in units of the features.
    """
    return nearest_distances(train, queries, k).mean(1)


def nearest_distances(
    train: np.ndarray | Iterable[np.ndarray], queries: np.ndarray, k: int
) -> np.ndarray:
    """Euclidean distances to the k nearest training points, exact.

    The training points are seen once, block after block, and of each block only what is nearer than before is kept: memory holds
    the queries and a block. A float32 matrix product finds candidates, their distances are taken again from the differences, and
    a bound on the rounding of the product proves that no other point is nearer. The few queries without that proof (near
    duplicates) are searched in double precision.

    Args:
        train: float32 features (n, d), in memory or a memory map; or blocks of them, as they come.
        queries: float32 features (m, d).
        k: neighbours; n where there are fewer.

    Returns:
        float64 (m, k), ascending, in units of the features.

    Raises:
        InputError: features are NaN, infinite or too large.
    """
    check(queries)
    nearest, seen = np.full((len(queries), k), np.inf), 0
    for block in blocks(train):
        check(block)
        nearest = _nearest_with(block, queries, nearest)
        seen += len(block)
    return nearest[:, : min(k, seen)]


def blocks(train: np.ndarray | Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Features (n, d) in blocks of at most `HELD` values; what comes in larger ones is cut."""
    for part in [train] if isinstance(train, np.ndarray) else train:
        rows = max(1, HELD // part.shape[1])
        for start in range(0, len(part), rows):
            yield part[start : start + rows]


def check(values: np.ndarray) -> None:
    """Raise `InputError` where features have no distance."""
    largest = max(values.max(), -values.min())
    if not largest < LARGEST:  # NaN fails this as well
        raise InputError(
            f"features reach {largest:g}, too large to measure distances; choose another --layer"
        )


def proposals(k: int) -> int:
    """How many points a search in rounded numbers hands on for the k nearest to be among them."""
    return 2 * k + 6


def candidate_distances(
    train: np.ndarray, queries: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """Distances float64 (m, kept) to each query's candidates, rows of `train` (m, kept), from the differences; infinite for -1."""
    distances = np.empty(candidates.shape)
    block = max(1, GATHERED // (candidates.shape[1] * train.shape[1]))
    for start in range(0, len(queries), block):
        here = slice(start, start + block)
        distances[here] = np.linalg.norm(train[candidates[here]] - queries[here, None], axis=2)
    distances[candidates < 0] = np.inf
    return distances


def _nearest_with(train: np.ndarray, queries: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """The smallest distances so far (m, k), ascending, when these training points have been seen as well."""
    import faiss

    kept = min(proposals(nearest.shape[1]), len(train))
    centre = train.mean(0, dtype=np.float64).astype(np.float32)
    centred = (
        queries - centre
    )  # distances stay, and what cancels in |a|^2 - 2ab + |b|^2 becomes small
    estimates, candidates = faiss.knn(centred, train - centre, kept)
    lengths = np.linalg.norm(centred, axis=1)

    def error(radius: np.ndarray) -> np.ndarray:
        # A point farther out than |q| + r cannot lie within r of q. For every other one the product rounds the square by less
        # than (d + a few) u (2|q| + r)^2, whatever the order of its sums; twice that covers the centring and r itself.
        return 2 * (train.shape[1] + 8) * ROUNDING * (2 * lengths + radius) ** 2

    def nearer(rows: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        both = np.hstack([nearest[rows], candidate_distances(train, queries[rows], candidates)])
        return np.sort(both, axis=1)[:, : nearest.shape[1]]

    found, before = nearest.copy(), nearest[:, -1]
    reached = np.flatnonzero(estimates[:, 0] <= before**2 + error(before))
    found[reached] = nearer(reached, candidates[reached])
    if kept < len(train):
        after = found[:, -1]
        unproven = np.flatnonzero(after**2 > estimates[:, -1] - error(after))
        found[unproven] = nearer(
            unproven, _candidates_in_double(train, queries[unproven], centre, kept)
        )
    return found


def _candidates_in_double(
    train: np.ndarray, queries: np.ndarray, centre: np.ndarray, kept: int
) -> np.ndarray:
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
            squares = np.hstack(
                [squares, (points**2).sum(1) - 2 * block @ points.T]
            )  # |q|^2 is the same for all
            indices = np.hstack([indices, here])
            if squares.shape[1] > kept:
                best = np.argpartition(squares, kept - 1, axis=1)[:, :kept]
                squares, indices = (
                    np.take_along_axis(held, best, axis=1) for held in (squares, indices)
                )
        found[start : start + many] = indices
    return found
