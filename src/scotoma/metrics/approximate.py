"""Distance to training sets of more than a million images, by an index with measured recall.

Exact search is a matrix product: n d m multiplications for n training points and m queries in d
dimensions. An inverted file (IVF) sorts the training points into cells around centres and searches
only the cells nearest to a query. It is built for one audit, at n d multiplications a cell, so it
has few cells where there are few queries.
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
from scotoma.utils.optional import require
from scotoma.utils.stats import Rate, rate

EXACT = 1_000_000
"""Training points up to which every search is exact (docs/scale.md has its cost)."""
FEW = 1_000
"""Queries up to which every search is exact: building an index and measuring its recall would take
as long."""
SAMPLE = 300
"""Queries that recall is measured on."""
RECALL = 0.95
"""Minimum for the lower end of the interval of recall."""
FIRST = 4
"""Cells searched for a query at first; the number doubles until recall suffices."""
SLOWNESS = 11
"""Time of a distance by the index over that by a matrix product (docs/scale.md)."""
POINTS_A_CELL = 64
"""Training points that the centre of a cell is fitted to."""


@dataclass(frozen=True)
class Neighbours:
    """Mean distances to the nearest training points.

    Args:
        distance: float64 (m,), in units of the features.
        recall: share of the nearest points that the index returns, over a random sample of the
            queries; None where the search is exact.
    """

    distance: np.ndarray
    recall: Rate | None = None


def nearest_neighbours(train: np.ndarray, queries: np.ndarray, k: int = 5) -> Neighbours:
    """Return `nearest_distance`, by an index for many queries among over a million points.

    The index proposes points, whose distances are computed from the features themselves. A point
    that it misses makes the mean larger; nothing makes it smaller. The search covers enough cells
    to lift the interval of recall above 95%. Where exact search is no slower (features without
    clusters), it is used instead. The index takes one byte for each feature, plus a block.

    Args:
        train: float32 features (n, d), in memory or a memory map.
        queries: float32 features (m, d).
        k: neighbours; n where there are fewer.

    Raises:
        InputError: features are NaN, infinite or too large.
    """
    large = len(train) > EXACT and len(queries) > FEW
    approximate = _by_index(train, queries, k) if large else None
    return approximate or Neighbours(nearest_distances(train, queries, k).mean(1))


def _by_index(train: np.ndarray, queries: np.ndarray, k: int) -> Neighbours | None:
    """Return None where recall needs so many cells that exact search is no slower."""
    check(queries)
    random = np.random.default_rng(0)
    sample = queries[random.choice(len(queries), min(SAMPLE, len(queries)), replace=False)]
    truth = nearest_distances(train, sample, k)
    cells = _cells(len(train), len(queries))
    rows = np.sort(random.choice(len(train), min(POINTS_A_CELL * cells, len(train)), replace=False))
    fitted = train[rows]
    # far from the origin float32 cannot separate cells
    centre = fitted.mean(0, dtype=np.float64).astype(np.float32)
    index = _build(train, fitted - centre, centre, cells)

    def nearest(points: np.ndarray) -> np.ndarray:
        """Return distances (m, k), ascending; infinite where the cells have fewer points."""
        _, candidates = index.search(points - centre, proposals(k))
        return np.sort(candidate_distances(train, points, candidates), axis=1)[:, :k]

    index.nprobe = FIRST
    while SLOWNESS * index.nprobe < cells:
        hits = nearest(sample) <= truth[:, -1:] * (1 + 1e-6)
        # The interval is for yes-or-no outcomes and too wide for shares, which vary less.
        recall = rate(hits.mean(1))
        if recall.low >= RECALL:
            distances = nearest(queries)
            lacking = np.isinf(distances[:, -1])
            if lacking.any():
                distances[lacking] = nearest_distances(train, queries[lacking], k)
            return Neighbours(distances.mean(1), recall)
        index.nprobe *= 2
    return None


def _cells(points: int, queries: int) -> int:
    """Return the number of cells that minimises the time to build and to search the index.

    The time is that of the build and of a search of twice `FIRST` cells for every query.
    """
    return min(round(math.sqrt(SLOWNESS * 2 * FIRST * queries)), points // POINTS_A_CELL)


def _build(train: np.ndarray, fitted: np.ndarray, centre: np.ndarray, cells: int) -> Any:
    """Build the index of all training points minus `centre`.

    Its 8-bit codes store the offset of a point from the centre of its cell.
    """
    faiss = require("faiss", "the index of nearest neighbours")
    index = faiss.index_factory(train.shape[1], f"IVF{cells},SQ8")
    index.cp.max_points_per_centroid = POINTS_A_CELL
    index.train(fitted)
    for block in blocks(train):
        index.add(block - centre)
    return index
