"""How far apart two samples lie in feature space itself: by nearest neighbours, and by a classifier that tells them apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scotoma.metrics.resampling import DRAWS, Comparison, compare
from scotoma.metrics.search import nearest_others

NEIGHBOURS = 5
SPARE = 4
"""How many times as many neighbours are kept as a draw is expected to need."""
UNEVEN = 8
"""A sample more than so many times as large as the other is cut down: it hardly adds to what both together tell."""
DIMENSION_NEIGHBOURS = 20
GATHERED = 2**20
"""Values held at once when distances are taken from differences."""

SIDE = 2000
COMPONENTS = 100
FOLDS = 5
FLATTEST = 1e-4
"""Principal components with a smaller share of the largest standard deviation are rounding."""


def knn_comparison(
    train: np.ndarray,
    test: np.ndarray,
    seed: Sequence[int] = (0,),
    *,
    k: int = NEIGHBOURS,
    draws: int = DRAWS,
) -> Comparison | None:
    """The k-nearest-neighbour K-L divergence from training to test features of one class, with its error and null.

    Args:
        train, test: float32 features (n, d) and (m, d); a random part of one that is more than eight times as large as the other.
        seed, draws: as in `compare`.
        k: neighbours.

    Returns:
        None where there are too few points, or too many of them at distance zero from each other.
    """
    generator = np.random.default_rng(seed)
    train, test = (
        _cut(train, UNEVEN * len(test), generator),
        _cut(test, UNEVEN * len(train), generator),
    )
    n, m = len(train), len(test)
    if min(n, m) < 2:
        return None
    held = min(m, n // 2)
    near = Neighbours.find(
        train, test, k, (_kept(k, held / n, n - 1), _kept(k, min(held, m // 2) / m, m))
    )
    return compare(n, m, near.divergence, seed, draws) if math.isfinite(near.dimension) else None


@dataclass(frozen=True)
class Neighbours:
    """The training points nearest to each training point, then the test points nearest to it.

    Once found, the divergence between any parts of the samples costs no search.
    """

    indices: np.ndarray
    """(n, kept) into the training points followed by the test points; n + m where the distance is zero."""
    distances: np.ndarray
    """float64 (n, kept), ascending within each of the two."""
    total: int
    """n + m."""
    k: int
    dimension: float
    """Intrinsic dimension of the training points, see `intrinsic_dimension`."""

    @classmethod
    def find(
        cls,
        train: np.ndarray,
        test: np.ndarray,
        k: int = NEIGHBOURS,
        kept: tuple[int, int] | None = None,
    ) -> Neighbours:
        """Exact search; distances are taken from differences, not from a matrix product, which cancels for near points.

        Args:
            train, test: float32 features (n, d) and (m, d).
            k: neighbours of the estimator.
            kept: training and test neighbours kept; None means all.
        """
        import faiss

        n, m = len(train), len(test)
        kept = kept or (n - 1, m)
        centre = train.mean(0, dtype=np.float64).astype(np.float32)
        train, test = (
            np.ascontiguousarray(points - centre, np.float32) for points in (train, test)
        )
        within, distances = _sorted(train, train, nearest_others(train, kept[0])[0])
        across, further = _sorted(train, test, faiss.knn(train, test, kept[1])[1])
        indices, distances = np.hstack([within, across + n]), np.hstack([distances, further])
        indices[distances == 0] = n + m
        return cls(indices, distances, n + m, k, intrinsic_dimension(distances[:, : kept[0]]))

    def divergence(self, first: np.ndarray, second: np.ndarray) -> float:
        """K-L divergence in nats from the training points `first` to the points `second`, by index.

        The estimator of Wang, Kulkarni and Verdu 2009: (d / n) sum of log(nu / rho), plus log(m / (n - 1)), with rho and nu the
        distances of each of `first` to its k-th nearest of the other n - 1 and of the m. d is the intrinsic dimension of the
        training points, since features on a surface have a density on it and none in space. A point at distance zero is nobody's
        neighbour, since its logarithm is infinite.

        It can be below zero; NaN where no point has k neighbours in both.
        """
        logs = np.log(self._distance(first, second)) - np.log(self._distance(first, first))
        known = logs[np.isfinite(logs)]
        return (
            self.dimension * float(known.mean()) + math.log(len(second) / (len(first) - 1))
            if known.size
            else math.nan
        )

    def _distance(self, points: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Distance of each of `points` to its k-th nearest of `others`; NaN where fewer were kept."""
        member = np.zeros(self.total + 1, bool)
        member[others] = True
        reached = member[self.indices[points]].cumsum(1) == self.k
        found = self.distances[points, reached.argmax(1)]
        return np.where(reached.any(1), found, np.nan)


def intrinsic_dimension(distances: np.ndarray, k: int = DIMENSION_NEIGHBOURS) -> float:
    """The dimension of the surface that points lie on: the maximum likelihood estimator of Levina and Bickel 2004, with the
    inverses averaged over points (MacKay and Ghahramani 2005).

    Args:
        distances: of each point to its nearest others, ascending (n, kept); zeros, which are duplicates, do not count.
        k: neighbours used.

    Returns:
        NaN where no point has two neighbours at different distances.
    """
    place = (distances > 0).cumsum(1)
    used = (distances > 0) & (place <= k)
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
    """A classifier two-sample test (Lopez-Paz and Oquab 2017): the area under the ROC curve, one half being chance, of a logistic
    regression that tells training from test points, and parts of the training set from each other.

    Features are standardised and turned into their first 100 principal components, each of unit variance, all without a look at
    which sample a point is of. The standard error is that of Hanley and McNeil 1982 or, where it is larger, the spread of the
    null, in which cross-validation has a part.

    Args:
        train, test: features (n, d) and (m, d), all classes together; n at least 10 and m at least 5.
        seed, draws: as in `compare`.
        side: most points of each sample; both always have as many, drawn at random.
        advance: told of the classifiers done, `draws` + 1.
    """
    generator = np.random.default_rng(seed)
    size = min(side, len(test), len(train) // 2)
    train, test = _cut(train, 10 * size, generator), _cut(test, size, generator)
    points, n = _whitened(train, test, generator), len(train)
    null = np.empty(draws)
    for i in range(draws):
        order = generator.permutation(n)
        null[i] = area(points[order[:size]], points[order[size : 2 * size]], seed)
        advance(1)
    auc = area(points[generator.permutation(n)[:size]], points[n:], seed)
    advance(1)
    above, below = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (size - 1) * (above + below - 2 * auc**2)) / size**2
    return Comparison(auc, max(math.sqrt(variance), float(null.std(ddof=1))), np.array([auc]), null)


def area(first: np.ndarray, second: np.ndarray, seed: int = 0) -> float:
    """Area under the ROC curve of a logistic regression between two samples of at least five points, cross-validated and averaged
    over the five folds, whose scores have no common scale."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    points, labels = np.concatenate([first, second]), np.repeat([0, 1], [len(first), len(second)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return float(
        cross_val_score(LogisticRegression(), points, labels, cv=folds, scoring="roc_auc").mean()
    )


def _whitened(train: np.ndarray, test: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Both samples (n + m, components), standardised and reduced to principal components of unit variance."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    points = StandardScaler().fit_transform(np.concatenate([train, test]))
    if not points.any():
        return points[:, :1]
    pca = PCA(min(COMPONENTS, *points.shape), random_state=int(generator.integers(2**31))).fit(
        points
    )
    scales = np.sqrt(pca.explained_variance_)
    kept = scales > FLATTEST * scales.max()
    return pca.transform(points)[:, kept] / scales[kept]


def _cut(points: np.ndarray, most: int, generator: np.random.Generator) -> np.ndarray:
    """At most so many of the points, at random."""
    return (
        points
        if len(points) <= most
        else points[np.sort(generator.permutation(len(points))[:most])]
    )


def _kept(k: int, share: float, most: int) -> int:
    """Neighbours to keep so that a random `share` of the points holds k of them, but for one time in ten thousand."""
    return min(most, max(DIMENSION_NEIGHBOURS, math.ceil(SPARE * k / share)))


def _sorted(
    queries: np.ndarray, points: np.ndarray, indices: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours (n, kept) of each query by their distance in double precision, and these distances."""
    distances = np.empty(indices.shape)
    block = max(1, GATHERED // (indices.shape[1] * queries.shape[1]))
    for start in range(0, len(queries), block):
        here = slice(start, start + block)
        difference = points[indices[here]] - queries[here, None]
        distances[here] = np.sqrt(
            np.einsum("ijk,ijk->ij", difference, difference, dtype=np.float64)
        )
    order = distances.argsort(1, kind="stable")
    return np.take_along_axis(indices, order, 1), np.take_along_axis(distances, order, 1)
