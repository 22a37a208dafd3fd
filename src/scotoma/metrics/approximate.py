"""Distance to the training data where it is more than a million images: by an index, whose recall is measured.

Exact search is a matrix product: of n training points and m queries in d dimensions n m d multiplications. An inverted file (IVF)
puts the training points into cells, each around a centre, and searches for a query only in the cells nearest to it. It is built
for one audit, at n d multiplications a cell, and so has few cells where there are few queries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from scotoma.metrics.neighbours import (
    blocks,
    candidate_distances,
    check,
    nearest_distances,
    proposals,
)
from scotoma.utils.stats import Rate, rate

EXACT = 1_000_000
"""Training points up to which every search is exact (docs/scale.md: what that takes)."""
FEW = 1_000
"""Queries up to which every search is exact: to build an index and to measure its recall would take as long."""
SAMPLE = 300
"""Queries that recall is measured on."""
RECALL = 0.95
"""What the lower end of its interval has to reach."""
FIRST = 4
"""Cells searched for a query at first; then twice as many, until recall is enough."""
SLOWNESS = 11
"""How much longer a distance takes by the index than by a matrix product (docs/scale.md)."""
SHOWN = 64
"""Training points that a cell's centre is learnt from."""


@dataclass(frozen=True)
class Neighbours:
    """Mean distances to the nearest training points.

    Args:
        distance: float64 (m,), in units of the features.
        recall: share of the nearest points that are found, over a random sample of the queries; None where search is exact.
    """

    distance: np.ndarray
    recall: Rate | None = None


def nearest_neighbours(train: np.ndarray, queries: np.ndarray, k: int = 5) -> Neighbours:
    """Equation 2 of Zhang et al. 2019 with p = 2: exact, or by an index for many queries among more than a million points.

    The index proposes points, whose distances are taken from the features themselves: a point that it misses makes the mean
    larger, and nothing makes it smaller. As many cells are searched as bring the interval of recall above 95%. Where exact search
    is no slower than that (features without clusters), it is taken. Memory beyond the features: their number in bytes, and a block.

    Args:
        train: float32 features (n, d), in memory or a memory map.
        queries: float32 features (m, d).
        k: neighbours; n where there are fewer.

    Raises:
        InputError: features are NaN, infinite or too large.
    """
    found = _by_index(train, queries, k) if len(train) > EXACT and len(queries) > FEW else None
    return found or Neighbours(nearest_distances(train, queries, k).mean(1))


def _by_index(train: np.ndarray, queries: np.ndarray, k: int) -> Neighbours | None:
    """None where recall takes so many cells that exact search is no slower."""
    check(queries)
    random = np.random.default_rng(0)
    sample = queries[random.choice(len(queries), min(SAMPLE, len(queries)), replace=False)]
    truth = nearest_distances(train, sample, k)
    cells = _cells(len(train), len(queries))
    chosen = np.sort(random.choice(len(train), min(SHOWN * cells, len(train)), replace=False))
    shown = train[chosen]
    centre = shown.mean(0, dtype=np.float64).astype(
        np.float32
    )  # far from the origin float32 cannot tell cells apart
    index = _built(train, shown - centre, centre, cells)

    def nearest(asked: np.ndarray) -> np.ndarray:
        """Distances (m, k), ascending; infinite where the cells hold fewer points."""
        _, candidates = index.search(asked - centre, proposals(k))
        return np.sort(candidate_distances(train, asked, candidates), axis=1)[:, :k]

    index.nprobe = FIRST
    while SLOWNESS * index.nprobe < cells:
        hits = nearest(sample) <= truth[:, -1:] * (1 + 1e-6)
        recall = rate(hits.mean(1))  # shares vary less than the yes or no that the interval is for
        if recall.low >= RECALL:
            distances = nearest(queries)
            lacking = np.isinf(distances[:, -1])
            if lacking.any():
                distances[lacking] = nearest_distances(train, queries[lacking], k)
            return Neighbours(distances.mean(1), recall)
        index.nprobe *= 2
    return None


def _cells(points: int, queries: int) -> int:
    """As many as make the time to build the index, and to search twice `FIRST` cells for every query, together the shortest."""
    return min(round(math.sqrt(SLOWNESS * 2 * FIRST * queries)), points // SHOWN)


def _built(train: np.ndarray, shown: np.ndarray, centre: np.ndarray, cells: int) -> Any:
    """The index of all training points, less `centre`. Its 8-bit codes are of what a point lies off the centre of its cell."""
    import faiss

    index: Any = faiss.index_factory(train.shape[1], f"IVF{cells},SQ8")
    index.cp.max_points_per_centroid = SHOWN
    index.train(shown)
    for block in blocks(train):
        index.add(block - centre)
    return index
