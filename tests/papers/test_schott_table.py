"""Six models in three norms, on digits: what stands in the tables is what the attacks found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from scotoma.models.classifier import freeze
from scotoma.models.synthesis import AnalysisBySynthesis
from scotoma.models.vae import ClassVAEs
from scotoma.papers.item import Context
from scotoma.papers.schott2019 import MODELS, norms, published
from scotoma.papers.schott2019.norms import (
    LINE,
    Bounds,
    Measurements,
    Norms,
    further,
    measure,
)
from scotoma.utils.stats import median

LIMIT = 6
STANDING = dict.fromkeys(MODELS, "digits-pgd") | {"Nearest neighbour": "digits-other"}


class Few(Norms):
    trainings = STANDING


@pytest.fixture(autouse=True)
def few_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let attacks be short: the time goes into queries and steps."""
    monkeypatch.setattr(norms.probe, "Norms", partial(norms.probe.Norms, steps=20))
    monkeypatch.setattr(norms, "QUERIES", 60)
    monkeypatch.setattr(norms, "FEWER", 30)


_kept: list[tuple[list, Any, dict[str, Measurements]]] = []


@pytest.fixture
def found(context: Callable[..., Context]) -> tuple[list, Any, dict[str, Measurements]]:
    """Measured by the first test of this file that needs it: the context of a test ends with it."""
    if not _kept:
        with context(limit=LIMIT) as held:
            rows, finding = Few().measure(held)
            names = ("CNN", "Nearest neighbour")
            _kept.append((rows, finding, {name: measure(held, STANDING[name]) for name in names}))
    return _kept[0]


def test_published_curves_fall_and_their_medians_are_where_half_is_left():
    for norm, models in published.CURVES.items():
        assert list(models) == list(MODELS)
        for printed in models.values():
            assert list(printed.distances) == sorted(printed.distances)
            below = sum(distance <= published.BOUNDS[norm].eps for distance in printed.distances)
            left = 1.0 if not below else published.LEVELS[below - 1]
            assert printed.accuracy <= left + 1e-9, (
                "accuracy at the bound lies below the last level reached before it"
            )
            assert printed.accuracy >= left - 0.2
    assert published.CURVES["l2"]["ABS"].median == 2.24


def test_rows_are_those_of_the_attacks(found):
    rows, finding, measured = found
    assert finding.numbers["n"] == LIMIT
    for paper, each in measured.items():
        for norm, read in each.readings.items():
            keys = {"model": paper, "norm": norm}
            (distance,) = [
                line
                for line in rows
                if line["measure"] == "median distance" and keys.items() <= line.items()
            ]
            nearest = np.min([tried.records[norm].to_numpy() for tried in read.attacks], axis=0)
            expected = median(np.where(each.correct, nearest, 0.0)).value
            assert distance["ours"] == pytest.approx(expected, abs=1e-6)
            assert distance["published"] == published.CURVES[norm][paper].median
            of_attacks = [
                line for line in finding.tables["attacks"] if keys.items() <= line.items()
            ]
            assert [line["attack"] for line in of_attacks] == [tried.name for tried in read.attacks]
            assert distance["ours"] <= min(
                line["median"] for line in of_attacks if line["median"] is not None
            )
    assert {line["model"] for line in finding.tables["summary"]} == set(MODELS)
    assert finding.verdict != "agrees", "a model stands no further than itself"


def test_examples_are_the_nearest_ones(found):
    _, finding, measured = found
    each = measured["CNN"]
    gallery = next(figure for figure in finding.figures if figure.name == "examples_linf")
    shown = finding.images["examples_linf"]
    assert shown.shape[:2] == (len(gallery.captions), 1 + len(MODELS))
    index = each.readings["linf"].attacks[0].records["index"].to_list()
    for line, captions in zip(shown, gallery.captions, strict=True):
        row = index.index(int(captions[0].removeprefix("test image ")))
        assert np.abs(line[1] - line[0]).max() == pytest.approx(
            each.readings["linf"].nearest[row], abs=1e-5
        )


def test_a_claim_holds_where_most_images_agree(found):
    _, finding, measured = found
    against_noise = further("", "linf", "CNN", "Nearest neighbour", measured)
    assert against_noise.holds == (against_noise.cells["share_low"] > 0.5)
    assert not further("", "linf", "CNN", "CNN", measured).holds, "ties are left out"
    assert len(finding.tables["checks"]) == 4 + 4 + 4 + 1 + 2


def test_without_analysis_by_synthesis_the_claims_about_the_other_models_are_left(found):
    _, _, measured = found
    networks: dict[str, Any] = dict.fromkeys(norms.FastNorms.trainings, measured["CNN"])
    assert set(networks) < set(MODELS)
    claims = [check.claim for check in norms.compare(networks)]
    assert len(claims) == 3
    assert not any("ABS" in claim for claim in claims)


def test_decisions_are_asked_less_often_of_models_that_search(context):
    with context(limit=2) as held:
        assert measure(held, "digits-pgd").queries == norms.QUERIES
        made = AnalysisBySynthesis(ClassVAEs((1, 8, 8), 10), samples=5, steps=1)
        freeze(made)
        held.models["digits-other"] = replace(held.model("digits-other"), module=made)
        assert measure(held, "digits-other").queries == norms.FEWER


def test_bounds_stand_beside_what_attacks_found(context, monkeypatch):
    class FewBounds(Bounds):
        trainings = dict.fromkeys(["CNN", "ABS"], "digits-pgd")

    monkeypatch.setattr(norms, "_lower", lambda each: np.linspace(0, 10, len(each.index)))
    with context(limit=LIMIT) as held:
        rows, finding = FewBounds().measure(held)
        nearest = measure(held, "digits-pgd").readings["l2"]
    right = nearest.correct
    crossed = (nearest.nearest < np.linspace(0, 10, LIMIT))[right].mean()
    assert 0 < crossed <= 1
    assert finding.verdict == "contradicts"
    assert finding.numbers["crossed"] == pytest.approx(crossed, abs=1e-6)
    table = finding.tables["distances"]
    assert [line["model"] for line in table[::LIMIT]] == ["CNN", "ABS", LINE]
    assert {line["model"] for line in rows} == {"CNN", "ABS", LINE}
