import math

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from scotoma.metrics.risk import FEWEST, Logistic, auroc, risk
from scotoma.utils.stats import Z95


@pytest.mark.parametrize("decimals", [8, 0])
def test_the_area_under_the_roc_curve(decimals):
    """Rounding to whole numbers makes ties."""
    rng = np.random.default_rng(0)
    positives, negatives = (
        rng.normal(1, 1, 150).round(decimals),
        rng.normal(0, 1, 350).round(decimals),
    )
    area = auroc(positives, negatives, seed=0)
    expected = roc_auc_score([1] * 150 + [0] * 350, [*positives, *negatives])
    assert area.value == pytest.approx(expected)
    assert area.low < area.value < area.high
    assert area.n == 500
    assert area == auroc(positives, negatives, seed=0)
    assert area != auroc(positives, negatives, seed=1)


@pytest.mark.parametrize(
    ("positives", "value"), [([3.0, 4.0], 1.0), ([-1.0, 0.0], 0.0), ([1.0, 1.0], 0.5)]
)
def test_areas_known_without_doubt(positives, value):
    area = auroc(np.array(positives), np.ones(5), seed=0)
    assert area[:3] == (value, value, value)


def test_the_interval_is_as_wide_as_theory_says():
    """The error of random scores is sqrt((p + q + 1) / 12pq) (Mann and Whitney 1947)."""
    rng = np.random.default_rng(0)
    positives, negatives = rng.normal(size=200), rng.normal(size=300)
    area = auroc(positives, negatives, seed=0)
    assert area.high - area.low == pytest.approx(
        2 * Z95 * math.sqrt(501 / (12 * 200 * 300)), rel=0.15
    )


def test_scores_of_the_same_images_are_drawn_together():
    before = np.random.default_rng(0).normal(size=400)
    paired, apart = (
        auroc(before + 0.05, before, seed=0, paired=paired) for paired in (True, False)
    )
    assert paired.value == apart.value
    assert paired.low > 0.5 > apart.low
    assert (paired.n, apart.n) == (400, 800)


def table(counts: dict[float, tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and outcomes of a table: input to (times it fell, times it did not)."""
    inputs = [
        (value, fell)
        for value, (yes, no) in counts.items()
        for fell, times in ((True, yes), (False, no))
        for _ in range(times)
    ]
    return np.array([[value] for value, _ in inputs]), np.array([fell for _, fell in inputs])


@pytest.mark.parametrize(
    "counts",
    [{0.0: (10, 30), 1.0: (25, 15)}, {0.0: (0, 40), 1.0: (40, 0)}, {2.0: (0, 9), 5.0: (3, 30)}],
)
def test_a_table_of_two_by_two(counts):
    """Firth's penalty adds half an image to each cell and keeps the slope finite (Firth 1993)."""
    inputs, fell = table(counts)
    fit = Logistic.fit(inputs, fell)
    (a, b), (c, d) = ((yes + 0.5, no + 0.5) for yes, no in counts.values())
    odds = math.log(c / d) - math.log(a / b)
    ((slope, low, high, n),) = fit.slopes()
    assert slope == pytest.approx(odds * fit.scale[0] / (max(counts) - min(counts)), rel=1e-6)
    assert fit.log_odds(np.array([[value] for value in counts])) == pytest.approx(
        [math.log(a / b), math.log(c / d)]
    )
    variance = sum(
        1 / (sum(cell) - 1) / math.prod(np.array(cell) / sum(cell)) for cell in ((a, b), (c, d))
    )
    assert (high - low) / slope == pytest.approx(2 * Z95 * math.sqrt(variance) / odds, rel=1e-5)
    assert n == len(fell)


def test_slopes_are_found_again():
    rng = np.random.default_rng(0)
    inputs = rng.normal([5, -2], [3, 0.1], (20_000, 2))
    fell = rng.random(20_000) < expit(
        -2 + 0.5 * (inputs[:, 0] - 5) / 3 - 1.5 * (inputs[:, 1] + 2) / 0.1
    )
    for slope, true in zip(Logistic.fit(inputs, fell).slopes(), (0.5, -1.5), strict=True):
        assert slope.value == pytest.approx(true, abs=0.08)
        assert slope.high - slope.low < 0.2


def test_inputs_that_decide_everything_or_nothing_leave_slopes_finite():
    rng = np.random.default_rng(0)
    margin = rng.normal(size=300)
    fit = Logistic.fit(np.column_stack([margin, np.ones(300), 1e6 * margin]), margin < 0)
    assert all(math.isfinite(end) for slope in fit.slopes() for end in slope[:3])
    assert (
        (fit.log_odds(np.column_stack([margin, np.ones(300), 1e6 * margin])) > 0) == (margin < 0)
    ).mean() > 0.95


def images(weights: tuple[float, float, float], n: int = 1500) -> tuple[np.ndarray, ...]:
    """Distance, margin, density and whether an image falls, by known log odds."""
    rng = np.random.default_rng(1)
    distance, margin, density = rng.normal(size=(3, n))
    return (
        distance,
        margin,
        density,
        rng.random(n) < expit(-1 + np.stack([distance, -margin, -density], 1) @ weights),
    )


def test_together_they_tell_more_than_each_alone():
    distance, margin, density, fell = images((1.0, 1.5, 0.5))
    result = risk(distance, margin, density, fell, seed=0)
    assert result is not None
    alone = {"margin": -margin, "distance": distance, "density": -density}
    for name, score in alone.items():
        assert result.scores[name].value == pytest.approx(roc_auc_score(fell, score))
        assert result.scores["risk"].low > result.scores[name].value > 0.5
    best = roc_auc_score(fell, distance - 1.5 * margin - 0.5 * density)
    assert result.scores["risk"].value == pytest.approx(best, abs=0.005)
    assert result.gain.value == pytest.approx(
        result.scores["risk"].value - result.scores["margin"].value
    )
    assert 0 < result.gain.low < result.gain.value < result.gain.high
    assert {score.n for score in result.scores.values()} == {1500}


def test_scores_that_tell_nothing_gain_nothing_on_images_held_out():
    result = risk(*images((0.0, 1.0, 0.0), 400), seed=0)
    assert result is not None
    assert result.gain.low <= 0.005
    nothing = risk(*images((0.0, 0.0, 0.0), 400), seed=0)
    assert nothing is not None
    assert nothing.scores["risk"].low < 0.5


def test_too_few_to_fit():
    distance, margin, density, _ = images((1.0, 1.0, 1.0), 200)
    for few in (0, FEWEST - 1):
        assert risk(distance, margin, density, np.arange(200) < few, seed=0) is None
        assert risk(distance, margin, density, np.arange(200) >= few, seed=0) is None
    assert risk(distance, margin, density, np.arange(200) < FEWEST, seed=0)
    density[0] = np.nan
    assert risk(distance, margin, density, np.arange(200) < FEWEST, seed=0) is None
    left = risk(distance, margin, density, np.arange(200) <= FEWEST, seed=2**62)
    assert left is not None
    assert left.gain.n == 199
