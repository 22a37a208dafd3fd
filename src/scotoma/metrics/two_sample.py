"""How far apart two samples lie in feature space: by nearest neighbours, and by a classifier."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scotoma.metrics.neighbours import nearest_others
from scotoma.metrics.resampling import DRAWS, Comparison, compare
from scotoma.utils.optional import require

NEIGHBOURS = 5
SPARE = 4
"""Factor by which more neighbours are kept than a draw is expected to need."""
UNEVEN = 8
"""Ratio of sample sizes beyond which the larger sample is cut: more points hardly add accuracy."""
DIMENSION_NEIGHBOURS = 20
GATHERED = 2**20
"""Values in memory at once when distances are computed from differences."""

SIDE = 2000
COMPONENTS = 100
FOLDS = 5
FLATTEST = 1e-4
"""Share of the largest standard deviation below which a principal component is rounding."""


def knn_divergence(train: np.ndarray, test: np.ndarray, k: int = NEIGHBOURS) -> float:
    """Estimate the K-L divergence from training to test features by nearest neighbours.

    Args:
        train, test: float32 features (n, d) and (m, d).
        k: neighbours.

    Returns:
        Nats; it can be below 0, and is NaN where no point has k neighbours in both samples.

    Source: Wang, Kulkarni and Verdu 2009, with the intrinsic dimension (`intrinsic_dimension`).

    >>> train, test = np.random.default_rng(0).normal(size=(2, 900, 1)).astype(np.float32)
    >>> round(knn_divergence(train, test + 1), 1)
    0.5
    """
    n, m = len(train), len(test)
    return Neighbours.find(train, test, k).divergence(np.arange(n), np.arange(n, n + m))


def knn_comparison(
    train: np.ndarray,
    test: np.ndarray,
    seed: Sequence[int] = (0,),
    *,
    k: int = NEIGHBOURS,
    draws: int = DRAWS,
) -> Comparison | None:
    """Return the K-L divergence by nearest neighbours (`knn_divergence`) with its error and null.

    Args:
        train, test: float32 features (n, d) and (m, d), mostly of one class. A sample more than
            eight times as large as the other is cut at random.
        seed, draws: see `compare`.
        k: neighbours.

    Returns:
        None where there are too few points, or too many at distance zero from each other.

    >>> train, test = np.random.default_rng(0).normal(size=(2, 100, 3)).astype(np.float32)
    >>> knn_comparison(train, test, draws=9).beyond_null
    False
    """
    generator = np.random.default_rng(seed)
    limit = UNEVEN * min(len(train), len(test))  # only the larger sample can have more
    train, test = _subsample(train, limit, generator), _subsample(test, limit, generator)
    n, m = len(train), len(test)
    if min(n, m) < 2:
        return None
    size = min(m, n // 2)
    counts = _neighbours_needed(k, size / n, n - 1), _neighbours_needed(k, min(size, m // 2) / m, m)
    near = Neighbours.find(train, test, k, counts)
    return compare(n, m, near.divergence, seed, draws) if math.isfinite(near.dimension) else None


@dataclass(frozen=True)
class Neighbours:
    """The training points and the test points nearest to each training point.

    Divergences between any parts of the samples need no further search.
    """

    indices: np.ndarray
    """(n, neighbours): nearest training points, then nearest test points, as indices into the
    training points followed by the test points; n + m where the distance is zero."""
    distances: np.ndarray
    """float64 (n, neighbours), ascending within each of the two groups."""
    total: int
    """n + m."""
    k: int
    """Neighbours of the estimator."""
    dimension: float
    """Intrinsic dimension of the training points, see `intrinsic_dimension`."""

    @classmethod
    def find(
        cls,
        train: np.ndarray,
        test: np.ndarray,
        k: int = NEIGHBOURS,
        counts: tuple[int, int] | None = None,
    ) -> Neighbours:
        """Search exactly; distances come from differences, since a product cancels for near points.

        Args:
            train, test: float32 features (n, d) and (m, d).
            k: neighbours of the estimator.
            counts: numbers of training and of test neighbours; None means all.
        """
        n, m = len(train), len(test)
        counts = counts or (n - 1, m)
        centre = train.mean(0, dtype=np.float64).astype(np.float32)
        train, test = (np.ascontiguousarray(each - centre, np.float32) for each in (train, test))
        within, distances = _sorted(train, train, nearest_others(train, counts[0])[0])
        search = require("faiss", "the divergence by nearest neighbours").knn
        across, further = _sorted(train, test, search(train, test, counts[1])[1])
        indices, distances = np.hstack([within, across + n]), np.hstack([distances, further])
        indices[distances == 0] = n + m
        return cls(indices, distances, n + m, k, intrinsic_dimension(distances[:, : counts[0]]))

    def divergence(self, first: np.ndarray, second: np.ndarray) -> float:
        """Return the K-L divergence from training points `first` to points `second` (indices).

        The estimate is (d / n) sum of log(nu / rho), plus log(m / (n - 1)). rho and nu are the
        distances from each of `first` to its k-th nearest of the other n - 1 and of the m points.
        d is the intrinsic dimension of the training points, since features on a surface have a
        density on it but none in space. Points at distance zero are not counted as neighbours,
        since their logarithm is infinite.

        Returns:
            Nats; it can be below 0, and is NaN where no point has k neighbours in both.
        """
        logs = np.log(self._distance(first, second)) - np.log(self._distance(first, first))
        finite = logs[np.isfinite(logs)]
        if not finite.size:
            return math.nan
        return self.dimension * float(finite.mean()) + math.log(len(second) / (len(first) - 1))

    def _distance(self, points: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return the distance of each of `points` to its k-th nearest of `others`, or NaN."""
        member = np.zeros(self.total + 1, bool)
        member[others] = True
        is_kth = member[self.indices[points]].cumsum(1) == self.k
        return np.where(is_kth.any(1), self.distances[points, is_kth.argmax(1)], np.nan)


def intrinsic_dimension(distances: np.ndarray) -> float:
    """Estimate the dimension of the surface that points lie on.

    This is the maximum likelihood estimator of Levina and Bickel 2004, with the inverses averaged
    over points (MacKay and Ghahramani 2005).

    Args:
        distances: distances of each point to its nearest others, ascending (n, k); zeros, which are
            duplicates, do not count, nor do more than `DIMENSION_NEIGHBOURS`.

    Returns:
        NaN where no point has two neighbours at different distances.
    """
    rank = (distances > 0).cumsum(1)
    used = (distances > 0) & (rank <= DIMENSION_NEIGHBOURS)
    farthest = np.where(used, distances, 0).max(1, keepdims=True)
    logs = np.log(np.divide(farthest, distances, out=np.ones_like(distances), where=used))
    nearer = used.sum() - used.any(1).sum()
    return float(nearer / logs.sum()) if logs.any() else math.nan


def classifier_comparison(
    train: np.ndarray,
    test: np.ndarray,
    seed: int = 0,
    *,
    draws: int = DRAWS,
    side: int = SIDE,
    advance: Callable[[int], None] = lambda steps: None,
) -> Comparison:
    """Run a classifier two-sample test: the AUC of a logistic regression, beside its null.

    The classifier separates training from test points; for the null it separates parts of the
    training set. Features are standardised and reduced to their first 100 principal components of
    unit variance, without regard to the sample that a point belongs to. The standard error is
    that of Hanley and McNeil 1982 or the spread of the null, whichever is larger: the null also
    contains the spread of cross-validation.

    Args:
        train, test: features (n, d) and (m, d), all classes together; n at least 10, m at least 5.
        seed, draws: see `compare`.
        side: most points of each sample; both are drawn at random and have equal sizes.
        advance: called with 1 after each of the `draws` + 1 classifiers.

    Source: Lopez-Paz and Oquab 2017.

    >>> train, test = np.random.default_rng(0).normal(size=(2, 60, 3)).astype(np.float32)
    >>> classifier_comparison(train, test + 2, draws=4).beyond_null
    True
    """
    generator = np.random.default_rng(seed)
    size = min(side, len(test), len(train) // 2)
    train, test = _subsample(train, 10 * size, generator), _subsample(test, size, generator)
    points, n = _whitened(train, test, generator), len(train)
    null = np.empty(draws)
    for i in range(draws):
        order = generator.permutation(n)
        null[i] = two_sample_auc(points[order[:size]], points[order[size : 2 * size]], seed)
        advance(1)
    auc = two_sample_auc(points[generator.permutation(n)[:size]], points[n:], seed)
    advance(1)
    above, below = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (size - 1) * (above + below - 2 * auc**2)) / size**2
    return Comparison(auc, max(math.sqrt(variance), float(null.std(ddof=1))), np.array([auc]), null)


def two_sample_auc(first: np.ndarray, second: np.ndarray, seed: int = 0) -> float:
    """Return the AUC of a cross-validated logistic regression between two samples.

    It is 0.5 where the classifier cannot separate the samples. The area is averaged over five
    folds, whose scores have no common scale.

    Args:
        first, second: features (n, d) and (m, d), at least five points each, of similar scales.
        seed: seed of the folds.

    >>> first, second = np.random.default_rng(0).normal(size=(2, 50, 1))
    >>> two_sample_auc(first, second + 9)
    1.0
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from threadpoolctl import threadpool_limits

    points, labels = np.concatenate([first, second]), np.repeat([0, 1], [len(first), len(second)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    areas = []
    with threadpool_limits(1):  # more threads wait for each other longer than they compute
        for training, held_out in folds.split(points, labels):
            fitted = LogisticRegression().fit(points[training], labels[training])
            scores, second_ones = fitted.decision_function(points[held_out]), labels[held_out] == 1
            areas.append(_area(scores[~second_ones], scores[second_ones]))
    return float(np.mean(areas))


def _area(low: np.ndarray, high: np.ndarray) -> float:
    """Return the share of pairs of which `high` has the larger score; ties count as half.

    It is the area under the ROC curve, without the checks of scikit-learn, which take longer than
    the fit.
    """
    order = np.sort(low)
    below = np.searchsorted(order, high, "left") + np.searchsorted(order, high, "right")
    return float(below.mean() / (2 * len(low)))


def _whitened(train: np.ndarray, test: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return both samples (n + m, components) as principal components of unit variance."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    points = StandardScaler().fit_transform(np.concatenate([train, test]))
    if not points.any():
        return points[:, :1]
    seed = int(generator.integers(2**31))
    pca = PCA(min(COMPONENTS, *points.shape), random_state=seed).fit(points)
    scales = np.sqrt(pca.explained_variance_)
    significant = scales > FLATTEST * scales.max()
    return pca.transform(points)[:, significant] / scales[significant]


def _subsample(points: np.ndarray, limit: int, generator: np.random.Generator) -> np.ndarray:
    """Draw at most `limit` of the points at random, in their order."""
    if len(points) <= limit:
        return points
    return points[np.sort(generator.permutation(len(points))[:limit])]


def _neighbours_needed(k: int, share: float, limit: int) -> int:
    """Return how many neighbours to keep so that a random `share` of the points contains k.

    The number suffices for all but about one point in ten thousand.
    """
    return min(limit, max(DIMENSION_NEIGHBOURS, math.ceil(SPARE * k / share)))


def _sorted(
    queries: np.ndarray, points: np.ndarray, indices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sort the neighbours (n, k) of each query by their distance in double precision."""
    distances = np.empty(indices.shape)
    block = max(1, GATHERED // (indices.shape[1] * queries.shape[1]))
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        offsets = points[indices[rows]] - queries[rows, None]
        distances[rows] = np.sqrt(np.einsum("ijk,ijk->ij", offsets, offsets, dtype=np.float64))
    order = distances.argsort(1, kind="stable")
    return np.take_along_axis(indices, order, 1), np.take_along_axis(distances, order, 1)
