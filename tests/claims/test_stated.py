"""Stated numbers: how often they are judged wrongly, and whether enough images decide."""

import numpy as np
import pytest

from scotoma.claim import Stated
from scotoma.results.stated import (
    decide,
    images_that_decide,
    judge,
    overall,
    unattacked,
)
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.stats import Rate, interval

MARGIN = 0.02


def test_claims_of_known_truth_are_hardly_ever_judged_wrongly():
    """2,000 claims near a known truth: wrong is broken at or below it, holds beyond the margin."""
    random = np.random.default_rng(0)
    wrong = {"broken": 0, "holds": 0}
    for _ in range(2000):
        truth, n = random.uniform(0.02, 0.99), int(random.integers(20, 5000))
        claimed = float(np.clip(truth + random.choice([0, 0, MARGIN, -MARGIN, 0.1]), 0.001, 1))
        verdict = decide(interval(random.binomial(n, truth) / n, n), claimed, MARGIN)
        wrong["broken"] += verdict == "broken" and truth >= claimed
        wrong["holds"] += verdict == "holds" and truth <= claimed - MARGIN
    assert sum(wrong.values()) <= 100, wrong
    assert wrong["broken"] > 0, "claims that are just true are among them"


@pytest.mark.parametrize(
    ("truth", "n"), [(0.9, 1), (0.98, 8), (0.99, 50), (0.995, 100), (0.999, 500)]
)
def test_a_high_accuracy_that_is_true_is_hardly_ever_refuted(truth: float, n: int):
    random = np.random.default_rng(2)
    wrong = 0
    for _ in range(1000):
        (judgement,) = judge({"a": truth}, {"a": random.random(n) < truth}, MARGIN, 10_000)
        wrong += judgement.verdict == "broken"
    assert wrong <= 50


def test_several_numbers_are_wrong_together_as_rarely_as_one():
    random = np.random.default_rng(1)
    truths = {"a": 0.9, "b": 0.5, "c": 0.97}
    wrong = 0
    for _ in range(500):
        outcomes = {name: random.random(400) < share for name, share in truths.items()}
        judged = judge(truths, outcomes, MARGIN, 10_000)
        wrong += any(each.verdict == "broken" for each in judged)
    assert wrong <= 25


@pytest.mark.parametrize("claimed", [0.5, 0.713, 0.92, 0.99])
@pytest.mark.parametrize("of", [1, 3])
def test_that_many_images_decide_whatever_they_show(claimed, of):
    n = images_that_decide(claimed, MARGIN, of)
    hits = np.arange(n + 1)
    near = hits[np.abs(hits / n - claimed) < 0.1]
    assert all(decide(interval(k / n, n, of), claimed, MARGIN) != "undecided" for k in near)
    fewer = n - 1
    assert any(
        decide(interval(k / fewer, fewer, of), claimed, MARGIN) == "undecided" for k in range(n)
    )


def test_what_is_said():
    outcomes = {"clean accuracy": np.arange(50) < 46, "robust": np.arange(50) < 20}
    holding, broken = judge({"clean accuracy": 0.92, "robust": 0.9}, outcomes, MARGIN, 1000)
    assert holding.verdict == "undecided"
    assert str(holding).endswith("attacking all 1,000 test images decides.")
    assert holding.images == holding.available == 1000, "no more can be attacked"
    assert broken.verdict == overall([holding, broken]) == "broken"
    assert "is refuted: it is at most 40.0%" in str(broken)
    assert decide(interval(0.9, 10_000), 0.9, MARGIN) == "holds"


def test_a_norm_without_an_attack_is_undecided_unless_refuted():
    pgd, noise = "PGD(threat=Threat(norm='linf', eps=0.3))", "GaussianNoise(norm='l2', draws=9)"
    why = unattacked(Threat("l2", 2.5), [pgd, noise])
    assert why == "no attack of this audit was made for L2; add the probe norms"
    assert not unattacked(Threat("linf", 0.3), [pgd])
    assert "beyond L-inf 0.3" in unattacked(Threat("linf", 0.6), [pgd])
    assert not unattacked(Threat("linf", 0.6), [pgd.replace("PGD", "Strong")])
    assert not unattacked(Threat("l2", 2.5), [pgd, "DDN(norm='l2', steps=100)"])
    name = "robust accuracy within l2:2.5"
    for accurate, verdict in (np.ones(500, bool), "undecided"), (np.zeros(500, bool), "broken"):
        (judged,) = judge({name: 0.7}, {name: accurate}, MARGIN, 500, {name: why})
        assert judged.verdict == verdict
        assert (why in str(judged)) == (verdict == "undecided")


def test_an_easy_number_leaves_the_verdict_on_the_threat():
    easy = judge({"clean accuracy": 0.5}, {"clean accuracy": np.ones(500, bool)}, MARGIN, 1000)
    assert [overall(easy, usual) for usual in ("holds", "weak", "undecided", "broken")] == [
        "holds",
        "weak",
        "undecided",
        "broken",
    ]


def test_all_test_images_leave_no_sampling_error():
    def exact(share: float) -> Rate:
        return Rate(share, share, share, 500)

    assert decide(exact(0.742), 0.742, MARGIN) == "holds"
    assert decide(exact(0.7196), 0.72, MARGIN) == "holds", "72.0% to the digits that are printed"
    assert decide(exact(0.715), 0.72, MARGIN) == "broken"
    (judged,) = judge(
        {"clean accuracy": 0.7}, {"clean accuracy": lambda of: exact(0.742)}, MARGIN, 500
    )
    assert str(judged).endswith("is not refuted: 74.2% of all 500 test images.")


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"robust": 1.2}, "robust_accuracy is 1.2"),
        ({"clean": 0.0}, "clean_accuracy is 0"),
        ({"clean": 0.5, "robust": 0.6}, "above clean_accuracy"),
        ({"margin": 0.0}, "margin is 0"),
        ({"also": ((Threat("l2", 1.0), -1.0),)}, "accuracy within l2:1 is -1"),
    ],
)
def test_numbers_that_cannot_be(numbers, says):
    with pytest.raises(InputError, match=says):
        Stated(**numbers)
