"""Blind spots of a certified network and of one that the bound does not know, on digits."""

from __future__ import annotations

import pytest

from once import barely_tested
from scotoma.papers.zhang2019 import provable
from scotoma.papers.zhang2019.provable import Provable
from scotoma.probes.blindspots.grid import MNIST_SHIFTS
from scotoma.reference import REFERENCES, Reference
from scotoma.results.finding import Curve, Finding, Gallery
from scotoma.threat import Threat
from scotoma.training.loop import Schedule, train

LIMIT = 15


class DigitsProvable(Provable):
    """A network with a certificate and one without."""

    models = ("digits-wong", "digits-pgd")


@pytest.fixture
def wong(models, digits, monkeypatch):
    """A small certified network among the reference models."""
    threat, schedule = Threat("linf", 0.02), Schedule(3, batch=64, peak=3e-3)
    path = models / "digits-wong.safetensors"
    train("wong", barely_tested(digits), "wong-small", threat, path, schedule=schedule)
    monkeypatch.setitem(
        REFERENCES, "digits-wong", Reference("wong", "digits", "wong-small", str(threat), schedule)
    )


def test_certificate_and_attack_stand_side_by_side(context, wong):
    with context(attack="min-linf", limit=LIMIT) as here:
        rows, finding = DigitsProvable().measure(here)
    assert all(each["published"] is None for each in rows)
    # accuracy beside an attack is over the whole test set
    assert {each["n"] for each in rows if each["measure"] != "success"} == {LIMIT, 500}
    by = {
        (each["model"], each["alpha"], each["beta"], each["measure"], each["threshold"]): each
        for each in rows
    }
    assert {key[0] for key in by if key[3] == "certified accuracy"} == {"digits-wong"}
    for alpha, beta in MNIST_SHIFTS:
        place = ("digits-wong", alpha, beta)
        accuracy = by[*place, "accuracy", None]["ours"]
        for size in {0.02, round(0.02 * alpha, 6)}:
            success, certified = (
                by[*place, measure, size] for measure in ("success", "certified accuracy")
            )
            assert certified["ours"] <= accuracy * (1 - success["ours"]) + 1e-6, (
                "what is certified does not fall"
            )
        assert by["digits-pgd", alpha, beta, "success", 0.1]["ours"] is not None
    assert by["digits-wong", 1.0, 0.0, "certified accuracy", 0.02]["ours"] > 0.1
    assert set(finding.tables) == {"checks", "digits-wong", "digits-pgd"}
    assert {figure.name for figure in finding.figures} >= {"digits-wong", "digits-pgd"}
    assert finding.verdict in ("agrees", "undecided", "contradicts")


class Losses:
    """In place of the distributional probe, which wants larger images."""

    def finding(self, claim, run, settings) -> Finding:
        if claim.model.name != "digits-pgd":
            return Finding("distributional", "", "not applicable", "", "")
        names = ("loss", "bound", "attacked_loss", "attacked_bound")
        row = {
            "alpha": 0.7,
            "beta": 0.15,
            "n": LIMIT,
            "loss_low": 0.5,
            "loss_high": 2.0,
            **dict.fromkeys(names, 1.0),
        }
        curve = Curve("curve", "A line.", table="curve", x="rho", y="loss", x_label="", y_label="")
        return Finding(
            "distributional",
            "",
            "weak",
            "",
            "",
            tables={"grid": [row], "curve": []},
            figures=(curve,),
        )


def test_the_distributional_certificate_joins_them(context, models, monkeypatch):
    monkeypatch.setattr(provable, "Distributional", Losses)
    monkeypatch.setattr(DigitsProvable, "models", ("digits-pgd",))
    with context(attack="min-linf", limit=LIMIT) as here:
        rows, finding = DigitsProvable().measure(here)
    losses = [each for each in rows if "loss" in each["measure"]]
    assert [each["measure"] for each in losses] == list(provable.LOSSES)
    assert [(each["low"], each["high"]) for each in losses[:2]] == [(0.5, 2.0), (None, None)]
    assert {(each["alpha"], each["model"], each["published"]) for each in losses} == {
        (0.7, "digits-pgd", None)
    }
    for figure in finding.figures:
        assert isinstance(figure, Gallery) or figure.table in finding.tables


def cell(alpha: float, accuracy: float, success: float, attacked: int = 100) -> dict:
    return {
        "alpha": alpha,
        "accuracy": accuracy,
        "success_alpha_eps": success,
        "attacked": attacked,
    }


def test_the_worst_move_is_harmless():
    base = cell(1, 0.98, 0.1)
    assert Provable._worst(
        [base, cell(0.9, 0.975, 0.3), cell(0.8, 0.96, 0.9), cell(0.7, 0.98, 0.5)]
    ) == cell(0.7, 0.98, 0.5)
    assert Provable._worst([base, cell(0.9, 0.96, 0.3)]) is None
    assert Provable._worst([cell(1, 0.0, 0.0, 0), cell(0.9, 0.98, 0.3)]) is None
