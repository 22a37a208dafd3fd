"""Features to the plane: the projection of Zhang et al. 2019, section 3.2."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scotoma.metrics.neighbours import nearest_others
from scotoma.utils.errors import InputError
from scotoma.utils.optional import require

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
    """Project all points together to two dimensions by t-SNE.

    openTSNE runs at its defaults: PCA initialization, 250 iterations with early exaggeration 12 and
    500 without, gradients by Barnes-Hut below 10,000 points and by interpolation above. Only the
    neighbours are exact, from faiss, so that the result does not depend on the number of threads.
    Features are not reduced by PCA first.

    Args:
        features: float32 (n, d), n at least 5.
        perplexity: lowered to (n - 1) / 3 where there are too few points for it.
        seed: seed of the initialization.
        advance: called with the number of iterations done since the last call; the calls sum to
            `ITERATIONS`.

    Returns:
        float64 (n, 2); zeros where all features are equal.

    Raises:
        InputError: features are NaN or infinite.

    >>> embed(np.eye(6, dtype=np.float32)).shape
    (6, 2)
    """
    import torch

    use = "the projection by t-SNE"
    tsne, affinity = require("openTSNE", use), require("openTSNE.affinity", use)
    nearest = require("openTSNE.nearest_neighbors", use)
    centre = features.mean(0, dtype=np.float64).astype(np.float32)
    centred = np.ascontiguousarray(features - centre, np.float32)
    if not np.isfinite(centred).all():
        raise InputError("features are NaN or infinite; choose another layer")
    largest = np.abs(centred).max()
    if largest == 0:
        return np.zeros((len(features), 2))
    centred /= largest  # only ratios of distances count, and squares must not overflow
    if centred.shape[1] == 1:
        centred = np.pad(centred, ((0, 0), (0, 1)))
    perplexity = min(perplexity, (len(features) - 1) / 3)
    threads = torch.get_num_threads()
    index = nearest.PrecomputedNeighbors(*nearest_others(centred, int(3 * perplexity)))
    affinities = affinity.PerplexityBasedNN(perplexity=perplexity, knn_index=index, n_jobs=threads)
    method = tsne.TSNE(
        early_exaggeration_iter=EARLY,
        n_iter=LATE,
        n_jobs=threads,
        random_state=seed,
        callbacks=(lambda iteration, error, embedding: advance(EVERY)) if advance else None,
        callbacks_every_iters=EVERY,
    )
    return np.array(method.fit(centred, affinities=affinities))
