import math

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import gaussian_kde

from scotoma.metrics.density import kde_divergence, kde_on_grid, scott_covariance


def samples(n: int = 300, m: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Two correlated samples, the second wider, moved and turned."""
    rng = np.random.default_rng(0)
    slant = np.array([[3.0, 2.0], [0.0, 1.0]])
    p = rng.normal(size=(n, 2)) @ slant
    q = 1.2 * rng.normal(size=(m, 2)) @ slant @ np.array([[0.99, -0.1], [0.1, 0.99]]) + [1, 0.5]
    return p, q


def direct(p: np.ndarray, q: np.ndarray, nodes: int) -> float:
    """The same integral on a grid of `nodes` a side, from the log densities of scipy."""
    densities = gaussian_kde(p.T), gaussian_kde(q.T)
    reach = 8 * np.sqrt(np.max([np.diag(density.covariance) for density in densities], axis=0))
    both = np.concatenate([p, q])
    axes = np.linspace(both.min(0) - reach, both.max(0) + reach, nodes).T
    grid = np.stack(np.meshgrid(*axes)).reshape(2, -1)
    first, second = (density.logpdf(grid) for density in densities)
    first, second = first - logsumexp(first), second - logsumexp(second)
    return float((np.exp(first) * (first - second)).sum())


def test_bandwidth_is_that_of_scipy():
    p, _ = samples()
    np.testing.assert_allclose(scott_covariance(p), gaussian_kde(p.T).covariance)


def test_the_divergence_is_that_of_scipy_on_a_fine_grid():
    p, q = samples()
    assert kde_divergence(p, q, floor=1e-100, margin=8) == pytest.approx(
        direct(p, q, 250), rel=1e-8
    )


def test_the_tails_are_those_of_scipy_where_a_fourier_transform_would_have_only_rounding():
    """A twentieth of the first sample lies where the second has a density of about exp(-100)."""
    p, q = samples()
    p[:15] += [2, 9]
    expected = direct(p, q, 250)
    assert expected > 3
    assert kde_divergence(p, q, floor=1e-100, margin=8) == pytest.approx(expected, rel=1e-7)


def test_the_density_is_exact_down_to_exp_minus_270_and_small_below():
    rng = np.random.default_rng(0)
    points, widths = rng.normal(size=(5000, 2)), np.array([0.3, 0.5])
    x, y = np.linspace(-10, 10, 12), np.linspace(-14.5, 14.5, 13)
    distances = (
        ((np.stack(np.meshgrid(x, y, indexing="ij"), -1)[:, :, None] - points) / widths) ** 2
    ).sum(-1) / 2
    logs = logsumexp(-distances, axis=2)
    log_density = np.log(kde_on_grid(points, widths, x, y))
    exact = logs > -270
    assert 0.3 < exact.mean() < 0.9
    np.testing.assert_allclose(log_density[exact], logs[exact], rtol=1e-11)
    assert -600 < log_density[~exact].min() < log_density[~exact].max() < -265


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_two_gaussians(shift):
    """Kernels widen a covariance by 1 + n^(-1/3); that divergence has a closed form."""
    rng = np.random.default_rng(1)
    n, m = 20_000, 10_000
    p, q = rng.normal(size=(n, 2)), rng.normal([shift, 0], [1, 1.5], size=(m, 2))
    first, second = 1 + n ** (-1 / 3), (1 + m ** (-1 / 3)) * np.array([1, 2.25])
    closed = 0.5 * ((first + np.array([shift**2, 0])) / second - 1 - np.log(first / second)).sum()
    assert kde_divergence(p, q) == pytest.approx(closed, rel=0.05)


def test_any_linear_map_leaves_it_as_it_is():
    p, q = samples()
    turned = np.array([[0.1, 2.0], [-5.0, 0.3]])
    assert kde_divergence(p @ turned, q @ turned) == pytest.approx(kde_divergence(p, q), rel=1e-4)


def test_the_grid_is_fine_enough():
    p, q = samples()
    p[0] = [25, -25]
    value = kde_divergence(p, q)
    assert kde_divergence(p, q, spacing=0.1) == pytest.approx(value, rel=2e-3)
    assert kde_divergence(p, q, spacing=1.0) == pytest.approx(value, rel=1e-2)


def test_the_floor_decides_what_a_lone_point_adds():
    p, q = samples()
    alone = p.copy()
    alone[0] = [100, 100]
    values = [kde_divergence(alone, q, floor=floor) for floor in (1e-2, 1e-6, 1e-12, 1e-100)]
    assert values[2] - values[1] > 0.9 * math.log(1e6) / len(p)
    assert values[3] - values[2] > 0.9 * math.log(1e88) / len(p)
    assert kde_divergence(alone, q) == kde_divergence(alone, q, floor=1 / (len(q) + 1))


def test_a_sample_and_itself():
    p, _ = samples()
    assert kde_divergence(p, p, floor=1e-100) == pytest.approx(0, abs=1e-12)


RNG = np.random.default_rng(0)
PLANE = RNG.normal(size=(30, 2))


@pytest.mark.parametrize(
    "other",
    [
        PLANE[:2],
        np.zeros((0, 2)),
        np.ones((9, 2)),
        RNG.normal(size=(9, 1)) * [[1, 2]],
        1e-7 * PLANE,
    ],
    ids=["two points", "no points", "one place", "a line", "much narrower"],
)
def test_what_has_no_spread_has_no_divergence(other):
    assert math.isnan(kde_divergence(other, PLANE))
    assert math.isnan(kde_divergence(PLANE, other))
