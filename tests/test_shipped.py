"""Networks that come with the package are found, so that nothing is trained for the digits."""

from __future__ import annotations

import pytest

from scotoma.auditing import make_claim
from scotoma.demo import MODEL, SCHEDULE, THREAT
from scotoma.execution.run import Run
from scotoma.models.loading import load_model
from scotoma.probes.generated.small import default_generator
from scotoma.probes.inequality.reference import choose_reference
from scotoma.probes.transfer.sources import sources
from scotoma.utils.cache import SHIPPED
from scotoma.validity import judges, oracle_for


@pytest.fixture
def run(tmp_path, monkeypatch, digits):
    monkeypatch.setenv("SCOTOMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("scotoma.reference.ZOO", tmp_path)
    monkeypatch.setattr("scotoma.probes.generated.small.MOST_IMAGES", 10_000)  # see quick.py
    return Run(make_claim(str(MODEL), digits, THREAT), tmp_path / "run", limit=2)


def test_the_demo_trains_nothing(run, tmp_path):
    generator = default_generator(run.claim, run)
    assert generator is not None
    assert generator.card["arch"] == "flow"
    assert [source.model.card["arch"] for source in sources(run.claim, run)] == [
        "wong-small",
        "tramer-d",
    ]
    beside = choose_reference(run.claim, run).model
    assert beside is not None
    assert beside.card["arch"] == "small-cnn"
    oracle = oracle_for(run)
    assert oracle is not None
    made = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert not made, "a network in scotoma/shipped is not of this version: train it again"


def test_every_file_is_one_of_these():
    assert len(list(SHIPPED.rglob("*.safetensors"))) == 1 + 1 + 3 + len(judges.ARCHITECTURES)


def test_the_card_of_the_demo_is_that_of_its_schedule():
    card = load_model(str(MODEL)).card
    assert (card["recipe"], card["arch"], card["threat"]) == ("pgd", "small-cnn", str(THREAT))
    assert card["schedule"]["epochs"] == SCHEDULE.epochs
