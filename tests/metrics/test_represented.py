"""Scores of how well an image is represented, against plain formulas."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from scotoma.metrics.represented import (
    ensemble_agreement,
    feature_margin,
    mean_confidence,
    private_share,
    retraining_stability,
)


@pytest.fixture
def probabilities() -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(4), size=(3, 20))


def test_agreement_is_over_all_pairs(probabilities):
    agreement = ensemble_agreement(probabilities)
    pairs = [jensenshannon(a.T, b.T) ** 2 for a, b in combinations(probabilities, 2)]
    assert agreement == pytest.approx(-np.mean(pairs, axis=0))


def test_networks_that_are_sure_of_different_classes_agree_least():
    sure = np.eye(2)[:, None]
    assert ensemble_agreement(sure) == pytest.approx([-np.log(2)])


def test_stability_is_minus_the_divergence_in_both_directions(probabilities):
    before, after, _ = probabilities
    expected = -(entropy(before, after, axis=1) + entropy(after, before, axis=1))
    assert retraining_stability(before, after) == pytest.approx(expected)
    assert retraining_stability(before, before) == pytest.approx(np.zeros(20))


def test_confidence_and_private_share(probabilities):
    expected = np.mean([each.max(1) for each in probabilities], axis=0)
    assert mean_confidence(probabilities) == pytest.approx(expected)
    assert private_share(np.eye(3, dtype=bool)) == pytest.approx([1 / 3] * 3)


def test_the_feature_margin_is_the_distance_to_the_nearest_boundary():
    rng = np.random.default_rng(1)
    features, weights, bias = rng.normal(size=(30, 5)), rng.normal(size=(4, 5)), rng.normal(size=4)
    logits = features @ weights.T + bias
    labels = logits.argmax(1)
    for x, label, margin in zip(
        features, labels, feature_margin(logits, labels, weights), strict=True
    ):
        others = [other for other in range(4) if other != label]
        ways = [(weights[other] - weights[label]) for other in others]
        ends = [x + 1.0001 * margin * way / np.linalg.norm(way) for way in ways]
        short = [x + 0.9999 * margin * way / np.linalg.norm(way) for way in ways]
        predicted = [(end @ weights.T + bias).argmax() for end in ends]
        assert any(each != label for each in predicted)
        assert all((end @ weights.T + bias).argmax() == label for end in short)


def test_the_feature_margin_of_an_error_is_negative():
    margin = feature_margin(np.array([[0.0, 1.0, 3.0]]), np.array([0]), np.eye(3))
    assert margin == pytest.approx([-3 / np.sqrt(2)])
