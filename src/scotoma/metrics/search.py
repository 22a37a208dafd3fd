"""Exact nearest neighbours within a set of points."""

from __future__ import annotations

import numpy as np


def nearest_others(points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest others of each point, the nearest first.

    Args:
        points: float32 (n, d).
        k: at most n - 1.

    Returns:
        Indices int64 (n, k) and distances float32 (n, k), rounded as a float32 matrix product rounds them. A point is never its
        own neighbour, whatever duplicates it has.
    """
    import faiss

    squares, indices = faiss.knn(points, points, k + 1)
    own = indices == np.arange(len(points))[:, None]
    own[~own.any(1), -1] = True  # crowded out by its duplicates
    kept = (len(points), k)
    return indices[~own].reshape(kept), np.sqrt(squares[~own].clip(min=0)).reshape(kept)
