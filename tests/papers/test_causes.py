"""Networks that differ in one thing, under contrast shifts, on digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from scotoma.papers.item import SUMMARY
from scotoma.papers.zhang2019 import causes
from scotoma.papers.zhang2019.causes import (
    BASE,
    LEVELS,
    PLACES,
    SHIFTED,
    Group,
    GroupComparison,
    Scarcity,
    Shift,
    Threshold,
    larger,
    response,
)
from scotoma.reference import REFERENCES, Reference
from scotoma.report.figures import draw
from scotoma.training.loop import Schedule
from scotoma.transforms.scale_shift import ScaleShift

LIMIT = 40


class Pair(GroupComparison):
    """A trained and an untrained network of the digits."""

    title = "Two networks"
    source = "nowhere"
    about = "network"
    trainings = {"trained": ("digits-pgd",), "both": ("digits-pgd", "digits-other")}
    checks = Shift.checks


def test_rates_are_over_the_networks_of_a_group(context, digits):
    with context(limit=LIMIT) as here:
        rows, finding = Pair().measure(here)
        run = here.sample("digits-pgd", LIMIT)
        images = digits.test.images(run.indices)
        labels = digits.test.labels[run.indices]
        correct = here.model("digits-pgd").module(images).argmax(1) == labels
        records = run.records.filter(transform=str(repr(ScaleShift(*SHIFTED))))
    by = {(row["group"], row["measure"]): row for row in rows}
    assert by["trained", "accuracy"]["ours"] == pytest.approx(
        correct.float().mean().item(), abs=1e-5
    )
    fell = records.filter(records["prediction"] == records["label"])["linf"] <= 0.09 + 1e-6
    success = by["trained", "success at 0.9, 0.05"]
    assert success["ours"] == pytest.approx(float(fell.to_numpy().mean()), abs=1e-5)
    assert success["low"] <= success["ours"] <= success["high"]
    robust = [by[group, "robust accuracy"]["ours"] for group in Pair.trainings]
    assert robust[1] < robust[0], "the untrained network has hardly any"
    assert by["both", "accuracy"]["n"] == 2 * LIMIT
    assert finding.tables[SUMMARY][0]["success_at_0.9_0.05"] == pytest.approx(success["ours"])
    assert len(finding.tables["checks"]) == 2
    for figure in finding.figures:
        assert "<svg" in draw(figure, finding)


def group(success: float, networks: int = 3, n: int = 200, robust: float = 0.9) -> Group:
    """Networks that classify everything correctly, broken as often as given."""
    random = np.random.default_rng(networks)
    correct = {at: np.ones((networks, n), bool) for at in PLACES}
    broken = {at: random.random((networks, n)) < success for at in PLACES}
    broken[BASE] = random.random((networks, n)) > robust
    return Group(correct, broken, {}, 0)


def test_scarcity_is_decided_beyond_chance():
    falling, rising = (0.9, 0.8, 0.7, 0.5, 0.3), (0.1, 0.2, 0.3, 0.5, 0.9)
    for rates, outcome in {falling: "agrees", rising: "contradicts"}.items():
        groups = dict(zip(Scarcity.trainings, map(group, rates), strict=True))
        checks = list(Scarcity().checks(groups, 200))
        robust = [check.outcome for check in checks if "robust" in check.claim]
        spots = [check.outcome for check in checks if "success" in check.claim]
        assert robust == ["undecided"] * 5
        assert spots == [outcome] * 10


def test_a_training_has_to_halve_the_success():
    made = zip(Threshold.trainings, (group(0.9), group(0.2, 2), group(0.7, 2)), strict=True)
    assert [c.outcome for c in Threshold().checks(dict(made), 200)] == ["agrees", "contradicts"]


def test_an_interval_grows_with_the_spread_of_the_networks():
    even, uneven = group(0.5), group(0.5)
    uneven.fooled[SHIFTED][:] = np.array([[0.0], [0.5], [1.0]]) > np.random.default_rng(0).random(
        (3, 200)
    )
    widths = [np.ptp(np.quantile(each.success(), [0.025, 0.975])) for each in (even, uneven)]
    assert widths[1] > 3 * widths[0]
    same = larger("", "", even.success(), even.success(), 200)
    assert same.outcome == "undecided"


def test_a_threshold_does_not_respond_on_black():
    layer = nn.Conv2d(1, 2, 2)
    with torch.no_grad():
        nn.init.constant_(layer.weight, 0.25)
        layer.bias = nn.Parameter(torch.full((2,), -0.3))
    # relu(x - 0.3) of a patch that is x on average, between level - 0.3 and level + 0.3
    assert response(nn.Sequential(layer, nn.ReLU()), 0.3) == pytest.approx(LEVELS / 0.5, abs=1e-6)


def test_scarce_networks_are_measured_against_what_they_saw(context, models, digits, monkeypatch):
    few = Reference("pgd", "digits", "small-cnn", "linf:0.1", Schedule(1, 64), images=300, seed=3)
    monkeypatch.setitem(REFERENCES, "digits-few", few)
    seen = few.seen(digits).train
    assert seen is not None
    assert len(seen.labels) == 300
    monkeypatch.setattr(causes, "POINTS", 200)
    with context(limit=10) as here:
        run = here.sample("digits-few", 10)
        facts = Scarcity().facts(run)
        all_seen = here.sample("digits-pgd", 10)
        more = Scarcity().facts(all_seen)
    assert (models / "digits-few.safetensors").exists()
    assert facts["distance in pixels"] > more["distance in pixels"], "fewer are farther apart"
    assert all(np.isfinite(value) for value in facts.values())
