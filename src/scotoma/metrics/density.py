"""Gaussian kernel densities of two samples in the plane, and the K-L divergence between them.

Equation 3 of Zhang et al. 2019 integrates over a grid. A linear map that makes both kernels axis-parallel leaves the divergence
as it is and turns each kernel into a product of one factor an axis, so that the density at all nodes is one matrix product of
positive numbers: no binning, and no cancellation that would drown the tails, whose logarithm counts.
"""

from __future__ import annotations

import math

import numpy as np

SPACING = 0.5
MARGIN = 5.0
DEEPEST = 300.0
"""Largest exponent of a factor: products of two of them are still normal numbers."""
NODES = 2**24
POINTS = 4096
"""Points whose kernels are held at once."""
FLATTEST = 1e-12
"""A covariance whose eigenvalues have a smaller ratio is singular."""


def kde_divergence(
    p: np.ndarray,
    q: np.ndarray,
    *,
    floor: float | None = None,
    spacing: float = SPACING,
    margin: float = MARGIN,
) -> float:
    """K-L divergence in nats from the Gaussian kernel density of `p` to that of `q`: the integral of p log(p / q).

    Each density has its own bandwidth by Scott's rule: n^(-1/6) times the sample's standard deviations, full covariance. It is
    integrated over a box around all points, in which both are made to sum to one.

    Args:
        p, q: points (n, 2) and (m, 2).
        floor: weight of a uniform density on the box that is mixed into the density of `q`, which bounds the logarithm where `q`
            has nothing; at least 1e-100. None is 1 / (m + 1): one more point of `q` that may lie anywhere in the box.
        spacing: of the nodes, in standard deviations of the narrower kernel, an axis. The sum over nodes of a Gaussian of unit
            width errs by 2 exp(-2 pi^2 / spacing^2).
        margin: of the box, in standard deviations of the wider kernel.

    Returns:
        At least 0; NaN where a sample has no spread in the plane (fewer than three points, points on a line), or where one is so
        much narrower than the other that the grid would have more than 2^24 nodes.
    """
    both = _axis_parallel(p, q)
    if both is None:
        return math.nan
    samples, widths = both
    nodes = [
        _nodes(np.concatenate([sample[:, i] for sample in samples]), widths[:, i], spacing, margin)
        for i in range(2)
    ]
    if nodes[0][2] * nodes[1][2] > NODES:
        return math.nan
    axes = [np.linspace(low, high, count) for low, high, count in nodes]
    first, second = (
        kde_on_grid(sample, width, *axes) for sample, width in zip(samples, widths, strict=True)
    )
    first /= first.sum()
    floor = 1 / (len(q) + 1) if floor is None else floor
    second *= (1 - floor) / second.sum()
    second += floor / second.size
    return float((first * np.log(first / second)).sum())


def kde_on_grid(points: np.ndarray, widths: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kernel density at the nodes of a grid, up to a factor.

    Args:
        points: (n, 2).
        widths: standard deviations of the kernel along both axes, (2,).
        x, y: the nodes' coordinates, (a,) and (b,).

    Returns:
        float64 (a, b), all positive: exact to rounding down to exp(-270) of a kernel's top, and small below.
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
    """Covariance (2, 2) of the Gaussian kernel by Scott's rule, as scipy has it: n^(-1/(d + 4)) standard deviations, d = 2."""
    return np.cov(points.T) * len(points) ** (-2 / 6)


def _axis_parallel(p: np.ndarray, q: np.ndarray) -> tuple[list[np.ndarray], np.ndarray] | None:
    """Both samples in coordinates in which their kernels are axis-parallel, and the kernels' standard deviations (sample, axis);
    None where a kernel is flat."""
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
    """First and last node of an axis, and how many."""
    low, high = points.min() - margin * widths.max(), points.max() + margin * widths.max()
    return low, high, math.ceil((high - low) / (spacing * widths.min())) + 1
