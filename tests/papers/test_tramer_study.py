"""The study of three trainings on digits: its rows are what models, sources and attacks give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from once import barely_tested
from scotoma.attacks.iterative import IFGSM
from scotoma.attacks.single_step import FGSM
from scotoma.execution import evaluation
from scotoma.execution.sampling import units
from scotoma.models.loading import load_model
from scotoma.papers.item import Context
from scotoma.papers.running import Reproduction
from scotoma.papers.tramer2018.errors import FGSM_SUITE, HELD_OUT, SAME, SEEN, measure
from scotoma.papers.tramer2018.study import Mnist, RandFGSMTraining, Study
from scotoma.reference import REFERENCES, Reference, find
from scotoma.threat import Threat
from scotoma.training.loop import Schedule
from scotoma.utils.stats import Rate

LIMIT = 20
EPS = 0.2
WAYS = {
    "tiny-out": ("natural", "tramer-d", ()),
    "tiny-seen": ("natural", "wong-small", ()),
    "tiny-cnn": ("natural", "small-cnn", ()),
    "tiny-cnn-fgsm": ("fgsm", "small-cnn", ()),
    "tiny-cnn-ensemble": ("ensemble", "small-cnn", ("tiny-seen",)),
    "tiny-cnn-rand": ("rand-fgsm", "small-cnn", ()),
}
MODELS = {
    name: Reference(
        recipe, "digits", arch, f"linf:{EPS}", Schedule(2, 32, peak=3e-3), sources=sources
    )
    for name, (recipe, arch, sources) in WAYS.items()
}


class Tiny(Study):
    """One network, a held-out source and one that is seen."""

    title = "Digits"
    source = "nowhere"
    suite = FGSM_SUITE
    recipe = "fgsm"
    networks = {
        "small": {"natural": "tiny-cnn", "fgsm": "tiny-cnn-fgsm", "ensemble": "tiny-cnn-ensemble"}
    }
    held_out = ("tiny-out",)
    members = ("tiny-seen", "tiny-cnn")


class TinyRand(RandFGSMTraining):
    """The same after R+FGSM training."""

    models = ("tiny-cnn-rand",)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, digits) -> Path:
    folder = tmp_path_factory.mktemp("models")
    few = barely_tested(digits)
    for name, wanted in MODELS.items():
        sources = [load_model(str(folder / f"{source}.safetensors")) for source in wanted.sources]
        wanted.train(few, folder / f"{name}.safetensors", lambda batches: None, sources)
    return folder


@pytest.fixture
def context(tmp_path, monkeypatch, trained) -> Callable[..., Context]:
    for name, wanted in MODELS.items():
        monkeypatch.setitem(REFERENCES, name, wanted)
    return lambda **changes: Context(
        tmp_path / "runs", **{"limit": LIMIT, "models": trained} | changes
    )


def wrong(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return (model(images).argmax(1) != labels).numpy()


def test_errors_are_those_of_the_attacked_images(context, digits):
    with context() as here:
        met = measure(here, "tiny-cnn-fgsm", Tiny.suite, Tiny.held_out, Tiny.members)
        indices = (
            torch.randperm(len(digits.test), generator=torch.Generator().manual_seed(0))[:LIMIT]
            .sort()
            .values
        )
        images, labels = digits.test.images(indices), digits.test.labels[indices]
        target, threat = here.model("tiny-cnn-fgsm").module, Threat("linf", EPS)
        clean = wrong(target, images, labels)
        assert (met.clean == clean).all()
        assert (
            met.own["FGSM"] == clean | wrong(target, FGSM(threat)(target, images, labels), labels)
        ).all()
        for name, attack in {
            "FGSM": FGSM(threat),
            "I-FGSM": IFGSM(threat, until_fooled=False),
        }.items():
            for source in ("tiny-out", "tiny-seen", "tiny-cnn"):
                shown = attack(here.model(source).module, images, labels)
                assert (met.transferred[source, name] == clean | wrong(target, shown, labels)).all()
    assert met.roles == {"tiny-out": HELD_OUT, "tiny-seen": SEEN, "tiny-cnn": SAME}
    assert met.transferred["tiny-out", "MIM"].any(), "transfer works at this size"


def test_the_study_measures_every_model_and_makes_examples_once(context, monkeypatch):
    made = []
    craft = evaluation.craft_batch
    monkeypatch.setattr(
        evaluation, "craft_batch", lambda self, *args: made.append(1) or craft(self, *args)
    )
    with context() as here:
        rows, finding = Tiny().measure(here)
    units_ = len(units(torch.arange(LIMIT)))
    assert len(made) == units_ * 3 * len(FGSM_SUITE.black_box), (
        "one batch for each unit, source and attack"
    )
    assert Tiny().models == (
        "tiny-cnn",
        "tiny-cnn-fgsm",
        "tiny-cnn-ensemble",
        "tiny-out",
        "tiny-seen",
    )
    assert {each["n"] for each in rows} == {LIMIT}
    assert {each["published"] for each in rows} == {None}
    by = {
        (each["training"], each["measure"], each["source"], each["attack"]): each["ours"]
        for each in rows
    }
    assert len(by) == len(rows)
    matrix = finding.tables["matrix"]
    for training, model in Tiny.networks["small"].items():
        held = [
            line["error"]
            for line in matrix
            if line["model"] == model and line["source_is"] == HELD_OUT
        ]
        assert len(held) == len(FGSM_SUITE.black_box)
        worst = by[training, "black-box error", "held out", "worst"]
        assert by[training, "clean error", None, None] <= max(held) <= worst <= 1
        assert by[training, "black-box error", "held out", "strongest one"] == max(held)
        assert by[training, "black-box error", "tiny-out", "worst"] == worst
        own = [by[training, "white-box error", None, attack] for attack in FGSM_SUITE.white_box]
        assert by[training, "white-box error", None, "worst"] >= max(own)
        line = next(
            line for line in finding.tables["summary"] if line["model"] == f"small, {training}"
        )
        assert (line["own_single_step"], line["black_box"]) == (own[0], worst)
    assert not [line for line in matrix if line["model"] == line["source"]], (
        "no model is its own source"
    )
    assert {
        (line["model"], line["source_is"]) for line in matrix if line["source"] == "tiny-seen"
    } == {(model, SEEN) for model in Tiny.networks["small"].values()}
    checks = finding.tables["checks"]
    assert [line["source"] for line in checks] == [None, "tiny-out", "tiny-out", None]
    held = [line["outcome"] == "agrees" for line in checks]
    assert not all(held) or finding.verdict == "agrees"
    assert finding.numbers["checks_agree"] == sum(held)
    assert "no white-box robustness" in finding.headline
    assert all(
        (line["model"] in finding.headline) for line in checks if line["outcome"] != "agrees"
    )

    monkeypatch.setattr(
        "scotoma.execution.evaluation.craft_batch", lambda *args: pytest.fail("made again")
    )
    monkeypatch.setattr(
        "scotoma.execution.evaluation.attack_batch", lambda *args: pytest.fail("attacked again")
    )
    with context() as here:
        assert Tiny().measure(here) == (rows, finding)


def test_a_summary_is_printed_in_place_of_many_rows(context, tmp_path, capsys):
    with context(limit=10) as here:
        rows, finding = Tiny().measure(here)
    Reproduction("tiny2018/tiny", tmp_path, rows, finding).show()
    printed = capsys.readouterr().out
    for says in (
        "small, natural",
        "small, ensemble",
        "Own single step",
        "Black box",
        finding.verdict,
    ):
        assert says in printed
    assert "strongest one" not in printed


def test_the_networks_of_mnist():
    item = Mnist()
    assert len(item.models) == 4 * 3 + 2 + 2
    assert set(item.models) <= set(REFERENCES)
    for network, trainings in item.networks.items():
        assert {REFERENCES[model].arch for model in trainings.values()} == {
            f"tramer-{network.lower()}"
        }
        assert [REFERENCES[model].recipe for model in trainings.values()] == [
            "natural",
            "fgsm",
            "ensemble",
            *(["ensemble"] if network in "BD" else []),
        ]
        taught = {source for model in trainings.values() for source in REFERENCES[model].sources}
        assert taught == set(item.members)
    assert not set(item.members) & set(item.held_out)
    assert {REFERENCES[model].threat for model in item.models} == {"linf:0.3"}


@pytest.mark.parametrize(
    "network",
    [pytest.param(name, marks=() if name == "D" else pytest.mark.slow) for name in Mnist.networks],
)
def test_fgsm_training_hides_on_mnist(tmp_path, mnist, network):
    natural, fgsm = (Mnist.networks[network][training] for training in ("natural", "fgsm"))
    if find(fgsm) is None or find(natural) is None:
        pytest.skip(f"{fgsm} is not in the zoo")
    suite = replace(FGSM_SUITE, black_box={"FGSM": FGSM})
    with Context(tmp_path / "runs", limit=80) as here:
        met = measure(here, fgsm, suite, ("mnist-natural",), ())
    assert met.clean.mean() < 0.06
    assert met.own["FGSM"].mean() < met.own["R+FGSM"].mean()
    assert met.white_box(FGSM_SUITE.iterated).mean() > 0.8


def test_another_attack_joins_the_white_box(context):
    with context(attack="pgd", limit=10) as here:
        rows, finding = Tiny().measure(here)
        asked = [each for each in rows if each["attack"] == "pgd"]
    assert [each["measure"] for each in asked] == ["white-box error"] * 3
    assert "pgd" in finding.notes[1]


def test_training_on_a_random_step(context):
    with context() as here:
        rows, finding = TinyRand().measure(here)
    by = {each["attack"]: each for each in rows}
    assert list(by) == ["none", *FGSM_SUITE.white_box]
    assert all(each["ours"] <= by["none"]["ours"] for each in rows)
    assert {each["published"] for each in rows} == {None, 0.18}
    assert by["PGD-20"]["published"] == 0.18
    assert by["R+FGSM"]["paper"] == "above 90%"
    difference = by["R+FGSM"]["ours"] - by["PGD-20"]["ours"]
    assert finding.numbers["difference"] == pytest.approx(difference, abs=1e-4)
    assert "2 epochs" in finding.headline
    assert "100 epochs" in finding.headline


@pytest.mark.parametrize(
    ("trained_low", "iterated_high", "holds"),
    [(0.93, 0.2, [True, True]), (0.89, 0.2, [False, True]), (0.93, 0.47, [True, False])],
)
def test_the_rule_of_random_step_training(trained_low, iterated_high, holds):
    rates = {
        "R+FGSM": Rate(0.95, trained_low, 1.0, 100),
        "PGD-20": Rate(0.18, 0.0, iterated_high, 100),
    }
    assert [check.holds for check in RandFGSMTraining.checks(rates)] == holds
