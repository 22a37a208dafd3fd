import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr

from linear_optimum import ExactSettings, optimum
from scotoma.auditing import make_claim
from scotoma.claim import Threat
from scotoma.probes.distance import BINS, Distance
from scotoma.probes.probe import Settings
from scotoma.run import Run
from scotoma.stats import Correlation, Rate

THREAT = Threat("linf", 0.02)


@pytest.fixture
def truth(grey, linear_grey) -> tuple[np.ndarray, np.ndarray]:
    """Mean distance to the five nearest training images, and smallest perturbation, of what the model has right."""
    train, test = (split.images(torch.arange(len(split))) for split in (grey.train, grey.test))
    smallest, _ = optimum(linear_grey, test, grey.test.labels)
    nearest = np.sort(cdist(test.flatten(1).double().numpy(), train.flatten(1).double().numpy()), 1)[:, :5].mean(1)
    right = (linear_grey(test).argmax(1) == grey.test.labels).numpy()
    return nearest[right], smallest.double().numpy()[right]


@pytest.fixture
def finding(tmp_path, grey, linear_grey):
    claim = make_claim(linear_grey, grey, THREAT)
    return Distance().measure(claim, Run(claim, tmp_path / "run"), ExactSettings())


def test_the_correlation_of_a_linear_model(finding, truth):
    numbers = finding.numbers
    assert numbers["spearman"] == pytest.approx(spearmanr(*truth)[0], abs=1e-3)
    assert numbers["spearman_low"] < numbers["spearman"] < numbers["spearman_high"]
    assert numbers["n"] == len(truth[0])
    assert numbers["neighbours"] == 5
    assert numbers["training_images"] == 1297
    assert numbers["layer"] == "input of 1"


def test_the_fifths_and_the_bins_are_those_of_the_distances(finding, truth):
    distance, smallest = truth
    far = np.argsort(distance)[-(len(distance) // 5) :]
    assert finding.numbers["farthest_fifth_success"] == pytest.approx((smallest[far] <= THREAT.eps).mean(), abs=0.02)
    bins = finding.tables["bins"]
    assert len(bins) == BINS
    assert sum(row["n"] for row in bins) == len(distance)
    assert sum(row["share"] for row in bins) == pytest.approx(1, abs=1e-4)
    assert bins[0]["left"] == pytest.approx(distance.min(), rel=1e-4)
    assert bins[-1]["right"] == pytest.approx(distance.max(), rel=1e-4)
    for before, after in pairwise(bins):
        assert before["right"] == after["left"]
    for row in bins[:-1]:
        inside = (distance >= row["left"]) & (distance < row["right"])
        assert abs(row["n"] - inside.sum()) <= 1
        assert row["rate"] is None or 0 <= row["low"] <= row["rate"] <= row["high"] <= 1
    assert [row["fifth"] for row in finding.tables["fifths"]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("layer", ["pixels", "logits", "relu3", None])
def test_any_layer(tmp_path, digits, digits_model, layer):
    claim = make_claim(str(digits_model), digits, Threat("linf", 0.1))
    settings = Settings(attack="fmn-linf", layer=layer)
    finding = Distance().measure(claim, Run(claim, tmp_path / "run", limit=60), settings)
    assert finding.numbers["layer"] == (layer or "input of fc2")
    assert -1 <= finding.numbers["spearman"] <= 1


def rates(near: tuple[float, float], far: tuple[float, float]) -> tuple[Rate, Rate]:
    nearest, farthest = (Rate((low + high) / 2, low, high, 50) for low, high in (near, far))
    return nearest, farthest


@pytest.mark.parametrize(
    ("near", "far", "high", "expected"),
    [
        ((0.0, 0.1), (0.5001, 0.9), 0.2, "broken"),
        ((0.0, 0.1), (0.5, 0.9), 0.2, "holds"),
        ((0.0, 0.1), (0.5, 0.9), -0.001, "weak"),
        ((0.0, 0.1), (0.5, 0.9), 0.0, "holds"),
        ((0.6, 0.9), (0.7, 0.9), 0.2, "holds"),
        ((0.6, 0.9), (0.7, 0.9), -0.1, "weak"),
        ((0.0, 0.1), (0.0, 0.1), math.nan, "holds"),
    ],
)
def test_the_verdict_at_the_edges_of_its_rule(near, far, high, expected):
    assert Distance._verdict(*rates(near, far), Correlation(high - 0.1, high - 0.2, high, 100)) == expected


def test_what_is_not_known_is_not_said():
    nothing = Correlation(math.nan, math.nan, math.nan, 0)
    fades = Correlation(-0.5, -0.6, -0.4, 100)
    for overall, within in ((nothing, nothing), (fades, nothing), (fades, fades), (Correlation(0.1, -0.1, 0.2, 9), nothing)):
        headline = Distance._headline(*rates((0, 0.1), (0.2, 0.4)), overall, within)
        assert "nan" not in headline
        assert headline.endswith(".")
