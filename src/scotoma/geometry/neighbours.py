"""Distance to the training data (Zhang et al. 2019, section 3.1)."""

from __future__ import annotations

import numpy as np

BLOCK = 1000


def mean_neighbour_distance(train: np.ndarray, queries: np.ndarray, k: int = 5) -> np.ndarray:
    """Equation 2 of Zhang et al. 2019 with p = 2: the mean Euclidean distance to the k nearest training points.

    Exact search over the whole training set, not by class.

    Args:
        train: float32 features (n, d).
        queries: float32 features (m, d).
        k: neighbours; at most n.

    Returns:
        float64 (m,), in units of the features.
    """
    import faiss

    index = faiss.IndexFlatL2(train.shape[1])
    index.add(np.ascontiguousarray(train, np.float32))  # type: ignore[call-arg]
    _, nearest = index.search(np.ascontiguousarray(queries, np.float32), min(k, len(train)))  # type: ignore[call-arg]
    # faiss expands |a - b|^2, which cancels for near points: the distances are taken again from the differences
    blocks = range(0, len(queries), BLOCK)
    exact = [np.linalg.norm(train[nearest[i : i + BLOCK]] - queries[i : i + BLOCK, None], axis=2) for i in blocks]
    return np.concatenate(exact).mean(1, dtype=np.float64)
