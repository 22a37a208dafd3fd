"""Densities of features: Gaussian kernels in the plane, and one Gaussian for each class.

Equation 3 of Zhang et al. 2019 integrates over a grid. A linear map that makes both kernels
axis-parallel leaves the divergence unchanged and turns each kernel into a product of one factor
for each axis. The density at all nodes is then one matrix product of positive numbers: there is no
binning, and no cancellation that would drown the tails, whose logarithm counts.
"""

from __future__ import annotations

import math

import numpy as np

SPACING = 0.5
MARGIN = 5.0
DEEPEST = 300.0
"""Largest exponent of a factor: products of two such factors are still normal numbers."""
NODES = 2**24
POINTS = 4096
"""Points whose kernels are in memory at once."""
FLATTEST = 1e-12
"""Ratio of eigenvalues below which a covariance is singular."""
COMPONENTS = 64
FITTED = 100_000
"""Largest number of training images, evenly spread, to which the components are fitted; also the
number that is projected at once."""


def kde_divergence(
    p: np.ndarray,
    q: np.ndarray,
    *,
    floor: float | None = None,
    spacing: float = SPACING,
    margin: float = MARGIN,
) -> float:
    """Return the K-L divergence between Gaussian kernel densities: the integral of p log(p / q).

    Each density has its own bandwidth by Scott's rule: n^(-1/6) standard deviations of the sample,
    full covariance. Both are normalised to sum to one over a grid in a box around all points.

    Args:
        p, q: points in the plane (n, 2) and (m, 2).
        floor: weight of a uniform density over the box, mixed into the density of `q` to bound the
            logarithm where `q` has no points; at least 1e-100. None means 1 / (m + 1), the weight
            of one more point of `q` anywhere in the box.
        spacing: distance between nodes, in standard deviations of the narrower kernel. The sum
            over nodes of a Gaussian of unit width errs by 2 exp(-2 pi^2 / spacing^2).
        margin: distance from the points to the edge of the box, in standard deviations of the
            wider kernel.

    Returns:
        Nats, at least 0. NaN where a sample has no spread in the plane (fewer than three points, or
        points on a line), or where the bandwidths differ so much that the grid would have more
        than 2^24 nodes.

    Source: Zhang et al. 2019, equation 3.

    >>> p = np.random.default_rng(0).normal(size=(500, 2))
    >>> round(kde_divergence(p, p), 2), round(kde_divergence(p, p + 1), 2)
    (0.0, 1.05)
    """
    aligned = _axis_parallel(p, q)
    if aligned is None:
        return math.nan
    samples, widths = aligned
    nodes = [
        _nodes(np.concatenate([sample[:, i] for sample in samples]), widths[:, i], spacing, margin)
        for i in range(2)
    ]
    if nodes[0][2] * nodes[1][2] > NODES:
        return math.nan
    axes = [np.linspace(low, high, count) for low, high, count in nodes]
    pairs = zip(samples, widths, strict=True)
    density_p, density_q = (kde_on_grid(sample, width, *axes) for sample, width in pairs)
    density_p /= density_p.sum()
    floor = 1 / (len(q) + 1) if floor is None else floor
    density_q *= (1 - floor) / density_q.sum()
    density_q += floor / density_q.size
    return float((density_p * np.log(density_p / density_q)).sum())


def kde_on_grid(points: np.ndarray, widths: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the kernel density at the nodes of a grid, up to a factor.

    Args:
        points: (n, 2).
        widths: standard deviations of the kernel along both axes, (2,).
        x, y: coordinates of the nodes, (a,) and (b,).

    Returns:
        float64 (a, b), all positive; exact to rounding down to exp(-270) of a kernel's maximum,
        and small below.
    """
    total = np.zeros((len(x), len(y)))
    for start in range(0, len(points), POINTS):
        block = points[start : start + POINTS]
        along_x, along_y = (
            np.exp(-np.minimum(((nodes[:, None] - block[:, i]) / widths[i]) ** 2 / 2, DEEPEST))
            for i, nodes in enumerate((x, y))
        )
        total += along_x @ along_y.T
    return total


def scott_covariance(points: np.ndarray) -> np.ndarray:
    """Return the covariance (2, 2) of the kernel by Scott's rule: n^(-1/6) standard deviations."""
    return np.cov(points.T) * len(points) ** (-2 / 6)


def class_log_density(
    train: np.ndarray, labels: np.ndarray, queries: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Return the log density of images under the training images of one class each.

    Features are projected on their leading principal components (at most `COMPONENTS`). In that
    space each class is a Gaussian with its own mean and covariance; the covariance is shrunk by
    Ledoit and Wolf (2004), so that few images suffice. Unlike the distance to the nearest training
    images, it measures how unusual an image is for its class.

    Args:
        train: float32 features (n, d).
        labels: integers (n,), classes of the training images.
        queries: float32 features (m, d).
        classes: integers (m,), the class to evaluate each query under.

    Returns:
        float64 (m,), natural logarithm; NaN for a class without training images.

    >>> train = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    >>> queries, label = np.array([[0, 0], [9, 9]], np.float32), np.zeros(200, int)
    >>> centre, outlier = class_log_density(train, label, queries, label[:2])
    >>> bool(centre > outlier)
    True
    """
    from sklearn.covariance import ledoit_wolf
    from sklearn.decomposition import PCA

    fitted = train
    if len(train) > FITTED:
        fitted = train[np.linspace(0, len(train) - 1, FITTED, dtype=np.int64)]
    components = PCA(min(COMPONENTS, *train.shape), svd_solver="randomized", random_state=0)
    with np.errstate(invalid="ignore"):  # constant features have no share of variance to explain
        components.fit(fitted)
    starts = range(0, len(train), FITTED)
    projected = [components.transform(train[start : start + FITTED]) for start in starts]
    points = np.concatenate(projected).astype(np.float64)
    query_points = components.transform(queries).astype(np.float64)
    # negligible beside the data's variance, but the covariance of a single image needs it
    floor = (1e-6 * points.var(0).mean() + 1e-12) * np.eye(points.shape[1])
    density = np.full(len(queries), np.nan)
    for label in np.unique(classes):
        members = points[labels == label]
        if not len(members):
            continue
        mean = members.mean(0)
        covariance = ledoit_wolf(members - mean, assume_centered=True)[0] if len(members) > 1 else 0
        factor = np.linalg.cholesky(covariance + floor)
        rows = classes == label
        whitened = np.linalg.solve(factor, (query_points[rows] - mean).T)
        log_volume = np.log(np.diag(factor)).sum() + len(mean) / 2 * math.log(2 * math.pi)
        density[rows] = -0.5 * (whitened**2).sum(0) - log_volume
    return density


def _axis_parallel(p: np.ndarray, q: np.ndarray) -> tuple[list[np.ndarray], np.ndarray] | None:
    """Return both samples in coordinates with axis-parallel kernels, and the kernels' widths.

    Widths are standard deviations (sample, axis). The result is None where a kernel is flat.
    """
    from scipy.linalg import eigh

    if min(len(p), len(q)) < 3:
        return None
    covariances = [scott_covariance(points) for points in (p, q)]
    for covariance in covariances:
        small, large = np.linalg.eigvalsh(covariance)
        if not small > FLATTEST * large:
            return None
    squares, axes = eigh(covariances[1], covariances[0])
    return [p @ axes, q @ axes], np.stack([np.ones(2), np.sqrt(squares)])


def _nodes(
    points: np.ndarray, widths: np.ndarray, spacing: float, margin: float
) -> tuple[float, float, int]:
    """Return the first and the last node of an axis and the number of nodes."""
    low, high = points.min() - margin * widths.max(), points.max() + margin * widths.max()
    return low, high, math.ceil((high - low) / (spacing * widths.min())) + 1
