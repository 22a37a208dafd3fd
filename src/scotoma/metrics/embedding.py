"""Features to the plane: the projection of Zhang et al. 2019, section 3.2."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scotoma.metrics.search import nearest_others
from scotoma.utils.errors import InputError

PERPLEXITY = 30.0
EARLY, LATE = 250, 500
ITERATIONS = EARLY + LATE
EVERY = 25
"""Iterations between two steps of the progress."""


def embed(
    features: np.ndarray,
    *,
    perplexity: float = PERPLEXITY,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> np.ndarray:
    """t-SNE of all points together in two dimensions.

    openTSNE at its defaults: PCA start, 250 iterations with early exaggeration 12 and 500 without, gradients by Barnes-Hut below
    10,000 points and by interpolation above. Only the neighbours are found exactly, with faiss, so that the result does not
    depend on the number of threads. Features are not reduced by PCA before.

    Args:
        features: float32 (n, d), n at least 5.
        perplexity: lowered to (n - 1) / 3 where there are too few points for it.
        seed: of the start.
        advance: told of the iterations done, `ITERATIONS` in all.

    Returns:
        float64 (n, 2); zeros where all features are the same.

    Raises:
        InputError: features are NaN or infinite.
    """
    import torch
    from openTSNE import TSNE
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    centred = np.ascontiguousarray(
        features - features.mean(0, dtype=np.float64).astype(np.float32), np.float32
    )
    if not np.isfinite(centred).all():
        raise InputError("features are NaN or infinite; choose another --layer")
    largest = np.abs(centred).max()
    if largest == 0:
        return np.zeros((len(features), 2))
    centred /= largest  # only ratios of distances count, and squares must not overflow
    if centred.shape[1] == 1:
        centred = np.pad(centred, ((0, 0), (0, 1)))
    perplexity = min(perplexity, (len(features) - 1) / 3)
    threads = torch.get_num_threads()
    neighbours = PrecomputedNeighbors(*nearest_others(centred, int(3 * perplexity)))
    affinities = PerplexityBasedNN(perplexity=perplexity, knn_index=neighbours, n_jobs=threads)  # type: ignore[arg-type]
    tsne = TSNE(
        early_exaggeration_iter=EARLY,
        n_iter=LATE,
        n_jobs=threads,
        random_state=seed,
        callbacks=(lambda iteration, error, embedding: advance(EVERY)) if advance else None,
        callbacks_every_iters=EVERY,
    )
    return np.array(tsne.fit(centred, affinities=affinities))
