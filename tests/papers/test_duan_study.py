"""A sweep of two small models of the digits: its rows are what maps, noise and squares give."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from once import barely_tested
from scotoma.attribution import ATTRIBUTIONS
from scotoma.attribution.integrated_gradients import IntegratedGradients
from scotoma.attribution.noise import InductiveNoise
from scotoma.attribution.occlusion import InductiveOcclusion
from scotoma.data.dataset import ArraySplit, Dataset, from_splits
from scotoma.execution.sampling import shuffled
from scotoma.metrics.inequality import CONVENTIONS, gini, regional_gini
from scotoma.papers import BY_NAME, ITEMS, item_names
from scotoma.papers.duan2023 import examination, published
from scotoma.papers.duan2023.examination import (
    NOISED,
    channels,
    common,
    measure,
    robust_images,
)
from scotoma.papers.duan2023.study import Cifar, Digits, Mnist, Seeds, Study, size
from scotoma.papers.duan2023.variants import NATURAL, PLAIN, Attributions, Remedies
from scotoma.papers.item import SUMMARY, Context
from scotoma.papers.running import Reproduction
from scotoma.probes.inequality.measurements import Measures
from scotoma.reference import REFERENCES, Reference
from scotoma.report.figures import draw
from scotoma.threat import Threat
from scotoma.training.loop import Schedule
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

LIMIT = 15
UNIT = 20
EPOCHS = {"tiny-natural": 3, "tiny-early": 2}
MODELS = {
    name: Reference("natural", "digits", "small-cnn", "linf:0.1", Schedule(epochs, 64))
    for name, epochs in EPOCHS.items()
}
MODELS["tiny-pgd"] = Reference("pgd", "digits", "small-cnn", "linf:0.1", Schedule(12))
MEAN, SD = 0.303, 0.377


class Tiny(Study):
    """Natural training and one size."""

    title = "Digits"
    source = "nowhere"
    trainings = {"natural": "tiny-natural", "0.1": "tiny-pgd"}


class TinyAttributions(Attributions):
    """The same models."""

    trainings = Tiny.trainings


class TinyRemedies(Remedies):
    """And one more."""

    trainings = {"digits": {NATURAL: "tiny-natural", PLAIN: "tiny-pgd", "Early": "tiny-early"}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, digits, digits_model) -> Path:
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(digits_model, folder / "tiny-pgd.safetensors")
    few = barely_tested(digits)
    for name in EPOCHS:
        torch.manual_seed(0)
        MODELS[name].train(few, folder / f"{name}.safetensors", lambda batches: None)
    return folder


@pytest.fixture
def context(tmp_path, monkeypatch, trained) -> Callable[..., Context]:
    for name, wanted in MODELS.items():
        monkeypatch.setitem(REFERENCES, name, wanted)
    monkeypatch.setattr(examination, "UNIT", UNIT)
    monkeypatch.setattr(examination, "NOISE_DRAWS", 2)
    monkeypatch.setattr(examination, "CENTRE_DRAWS", 1)
    monkeypatch.setattr(examination, "measures", _quick)
    return lambda **changes: Context(
        tmp_path / "runs", **{"limit": LIMIT, "models": trained} | changes
    )


_WHOLE = examination.measures


def _quick(data: Dataset, method: str = "integrated-gradients") -> Measures:
    """With maps that take no time."""
    made = _WHOLE(data, method)
    fewer = {name: 4 for name in ("steps", "samples") if hasattr(made.method, name)}
    return replace(made, method=replace(made.method, **fewer))


def test_what_is_measured_is_what_maps_noise_and_squares_give(context, digits):
    with context() as here:
        found = measure(here, Tiny.trainings)
        index = common(here, Tiny().models)
        module = here.model("tiny-pgd").module
    each = found["0.1"]
    assert (
        each.frame["index"].to_list() == found["natural"].frame["index"].to_list() == index.tolist()
    )
    assert len(each) == LIMIT
    assert each.counts == each.examination.noises[0].counts
    assert each.middle in each.counts
    images, labels = digits.test.images(index), digits.test.labels[index]
    for model in found.values():
        with torch.no_grad():
            assert (model.run.model(images).argmax(1) == labels).all()
    mean, sd = channels(digits)
    maps = IntegratedGradients(baseline=mean, steps=4)(module, images, labels)
    for convention in CONVENTIONS:
        assert each.gini("regional", convention) == pytest.approx(
            regional_gini(maps, convention).numpy(), abs=1e-3
        )
    for convention in CONVENTIONS[:2]:
        assert each.gini("global", convention) == pytest.approx(
            gini(maps, convention).numpy(), abs=1e-3
        )
    random = Randomness(0, index, "duan2023 examination")
    noise = InductiveNoise(draws=2, mean=mean, sd=sd, counts=each.counts)(
        module, images, labels, maps, random.fork(1)
    )
    for (order, kind), wrong in noise.wrong.items():
        for number, k in enumerate(each.counts):
            assert (
                each.noise(kind, order, k) == wrong[..., number].float().mean(1).numpy()
            ).mean() > 0.9, "all but near ties"
    fell = InductiveOcclusion(*each.settings[0], "black")(module, images, labels, maps).fooled
    assert (each.occlusion(0, "black") == fell.float().numpy()).mean() > 0.9, "all but near ties"
    assert (
        each.noise("II", "importance", each.counts[-1]).mean()
        > each.noise("II", "random", each.counts[-1]).mean()
    )


def test_what_was_examined_serves_more_images_and_other_items(context, digits, monkeypatch):
    with context() as here:
        few = measure(here, Tiny.trainings)["0.1"].frame
    looked = []
    look = Measures.__call__
    monkeypatch.setattr(
        Measures, "__call__", lambda self, *args: looked.append(1) or look(self, *args)
    )
    with context(limit=LIMIT - 5) as here:
        fewer = measure(here, Tiny.trainings)["0.1"].frame
        other = measure(here, {"0.1": "tiny-pgd"})["0.1"].frame
    assert not looked
    assert few[: LIMIT - 5].equals(fewer)
    assert len(set(few["index"]) & set(other["index"])) > 0.5 * len(fewer)
    with context(limit=LIMIT + UNIT) as here:
        more = measure(here, Tiny.trainings)["0.1"].frame
    order = shuffled(len(digits.test), 0).tolist()
    units = [order.index(frame["index"][-1]) // UNIT for frame in (few, more)]
    assert len(looked) == len(Tiny.trainings) * (units[1] - units[0]) > 0, (
        "what was not looked at before"
    )
    assert more[:LIMIT].equals(few)


def test_the_study(context, tmp_path, capsys):
    with context() as here:
        rows, finding = Tiny().measure(here)
    assert {line["n"] for line in rows if "test images" not in line["measure"]} == {LIMIT}
    assert {line["published"] for line in rows} == {None}
    keys = [
        tuple(value for key, value in line.items() if key not in ("ours", "low", "high", "n"))
        for line in rows
    ]
    assert len(set(keys)) == len(keys)
    by = {
        (line["trained for"], line["measure"], line["convention"]): line
        for line in rows
        if line["convention"]
    }
    for eps in Tiny.trainings:
        line = next(line for line in finding.tables[SUMMARY] if line["model"] == eps)
        assert line["gini"] == by[eps, "global Gini", "absolute"]["ours"]
        assert line["regional"] == by[eps, "regional Gini", "net"]["ours"]
        assert line["gini_low"] < line["gini"] < line["gini_high"]
    checks = finding.tables["checks"]
    held = sum(line["outcome"] == "agrees" for line in checks)
    contrary = sum(line["outcome"] == "contradicts" for line in checks)
    assert (finding.verdict == "agrees") == (held > len(checks) / 2 and not contrary)
    assert (finding.verdict == "contradicts") == (contrary > held)
    assert finding.numbers["checks_agree"] == held
    assert finding.numbers["checks_contradict"] == contrary
    for figure in finding.figures:
        assert "<svg" in draw(figure, finding)
    shown = finding.images["maps"]
    assert shown.shape == (4, 1 + 2, 3, 8, 8)
    assert finding.images["covered"].shape == (4, 1 + 2 * 3, 1, 8, 8)
    assert 0 <= shown.min() < 0.9
    assert shown.max() <= 1
    assert len(finding.tables["published_gini"]) == len(published.GINI)
    Reproduction("duan2023/tiny", tmp_path, rows, finding).show()
    printed = capsys.readouterr().out
    for says in ("natural", "Noise II", "Random squares", finding.verdict):
        assert says in printed


def test_seeds_are_compared_claim_by_claim(context):
    class TinySeeds(Seeds):
        trainings = {"seed 0": Tiny.trainings, "seed 1": Tiny.trainings | {"0.1": "tiny-early"}}

    with context() as here:
        rows, finding = TinySeeds().measure(here)
        _, single = Tiny().measure(here)
    checks = finding.tables["checks"]
    by = {
        seed: [line["outcome"] for line in checks if line["seed"] == seed]
        for seed in TinySeeds.trainings
    }
    assert len(by["seed 0"]) == len(by["seed 1"]) == len(single.tables["checks"])
    pairs = list(zip(*by.values(), strict=True))
    assert finding.numbers["alike"] == sum(a == b for a, b in pairs)
    assert finding.numbers["turned"] == sum({a, b} == {"agrees", "contradicts"} for a, b in pairs)
    assert {line["seed"] for line in rows} == set(TinySeeds.trainings)
    assert len(finding.tables[SUMMARY]) == 4


def test_covered_images_are_wrong_where_they_are_said_to_be(context, digits):
    with context() as here:
        _, finding = Tiny().measure(here)
        modules = [here.model(name).module for name in Tiny.trainings.values() for _ in range(3)]
    gallery, shown = finding.figures[-1], finding.images["covered"]
    fell = 0
    for row, captions in enumerate(gallery.captions):  # type: ignore[union-attr]
        for column, (module, caption) in enumerate(zip(modules, captions[1:], strict=True), 1):
            image = torch.from_numpy(shown[row, column])[None]
            if caption == "not fooled":
                assert np.array_equal(shown[row, column], shown[row, 0])
                continue
            with torch.no_grad():
                assert digits.classes[int(module(image).argmax())] == caption.partition(",")[0]
            assert (
                digits.classes[int(module(torch.from_numpy(shown[row, :1])).argmax())]
                != caption.partition(",")[0]
            )
            fell += 1
    assert fell


def test_published_figures_stand_beside_the_convention_that_they_fit(context):
    class Named(Tiny):
        trainings = {"natural": "tiny-natural", "8/255": "tiny-pgd"}
        printed = ("CIFAR-10", "ResNet-18")

    with context() as here:
        rows, finding = Named().measure(here)
    given = {
        (line["trained for"], line["measure"], line["convention"]): line["published"]
        for line in rows
        if line["published"]
    }
    assert given == {
        ("natural", "global Gini", "absolute"): 0.58,
        ("natural", "regional Gini", "net"): 0.79,
        ("8/255", "global Gini", "absolute"): 0.73,
        ("8/255", "regional Gini", "net"): 0.88,
    }
    assert finding.numbers["published"] == 4
    assert size("8/255") == pytest.approx(8 / 255)


def test_all_methods_of_attribution(context):
    with context() as here:
        rows, finding = TinyAttributions().measure(here)
    assert {line["method"] for line in rows} == set(ATTRIBUTIONS)
    assert len(finding.tables[SUMMARY]) == 2 * len(list(ATTRIBUTIONS))
    ginis = {
        (line["method"], line["trained for"]): line["ours"]
        for line in rows
        if line["measure"] == "global Gini"
    }
    assert len(set(ginis.values())) == len(ginis), "each method has maps of its own"
    assert ginis["smoothgrad", "natural"] > ginis["integrated-gradients", "natural"], (
        "squares are less equal"
    )
    assert len(finding.tables["checks"]) == len(list(ATTRIBUTIONS)) * (1 + 2 + 2)
    assert [
        line["gini"] for line in finding.tables["published"] if line["method"] == "smoothgrad"
    ] == [0.75, 0.98]
    for figure in finding.figures:
        assert "<svg" in draw(figure, finding)


def test_remedies_stand_beside_plain_training(context, digits):
    with context(attack="pgd") as here:
        rows, finding = TinyRemedies().measure(here)
        stood = robust_images(here, "tiny-pgd", Threat("linf", 0.1))
        natural = robust_images(here, "tiny-natural", Threat("linf", 0.1))
    assert len(stood) == LIMIT
    assert natural.mean() < stood.mean()
    by = {
        (line["training"], line["measure"]): line["ours"] for line in rows if line["order"] is None
    }
    assert by[PLAIN, "robust accuracy at 0.1"] == pytest.approx(stood.mean(), abs=1e-5)
    assert {line["training"] for line in rows} == {NATURAL, PLAIN, "Early"}
    checks = finding.tables["checks"]
    assert len(checks) == 1 + 2 * 2 + 3 + 1
    assert all(line["check"].startswith("Early") for line in checks)
    outcomes = [line["outcome"] for line in checks]
    assert (finding.verdict == "contradicts") == (
        outcomes.count("contradicts") > outcomes.count("agrees")
    )
    for figure in finding.figures:
        assert "<svg" in draw(figure, finding)


def test_measurements_are_on_standardised_images(digits):
    mean, sd = channels(digits)
    assert (mean[0], sd[0]) == pytest.approx((MEAN, SD), abs=0.02)
    every = digits.train.images(torch.arange(len(digits.train)))
    assert mean[0] == pytest.approx(float(every.mean()), rel=1e-4)
    assert sd[0] == pytest.approx(float(every.std()), rel=1e-3)
    for method in ATTRIBUTIONS:
        made = examination.measures(digits, method)
        assert made.method.baseline == mean
        if method in NOISED:
            assert made.method.noise == (NOISED[method] * sd[0],)  # type: ignore[attr-defined]
        assert made.noises[0].counts == (1, 2, 4, 9)


def test_channels_of_colour_images():
    pixels = torch.rand(1500, 3, 2, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1.0, 0.5, 0.1]
    ).view(3, 1, 1)
    split = ArraySplit(pixels.numpy(), np.arange(1500) % 2, "colour")
    mean, sd = channels(from_splits("colour", split, split))
    assert mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-4)
    assert sd == pytest.approx(pixels.std((0, 2, 3)).tolist(), rel=1e-2)


def test_models_with_no_right_image_in_common(context, monkeypatch):
    with context() as here:
        run = here.run("tiny-natural")
        told = run.predictions()
        monkeypatch.setattr(run, "predictions", lambda: told.with_columns(prediction=-1))
        with pytest.raises(InputError, match="tiny-natural"):
            common(here, ("tiny-natural", "tiny-pgd"))


@pytest.mark.parametrize("item", [Digits, Mnist, Cifar])
def test_the_sweeps(item):
    names = list(item.trainings)
    assert [size(name) for name in names] == sorted({size(name) for name in names})
    known = [REFERENCES[model] for model in item().models]
    assert len({(each.data, each.arch) for each in known}) == 1
    assert known[0].recipe == "natural"
    assert "natural" not in [each.recipe for each in known[1:]]
    for name, each in list(zip(names, known, strict=True))[1:]:
        assert Threat.parse(each.threat).eps == pytest.approx(size(name))


def test_remedies_are_trained_for_the_size_of_the_plain_model():
    for ways in Remedies.trainings.values():
        known = {way: REFERENCES[model] for way, model in ways.items()}
        assert {(each.data, each.arch, each.threat) for each in known.values()} == {
            (known[PLAIN].data, known[PLAIN].arch, known[PLAIN].threat)
        }
        assert known["Cutout"].augment == ("cutout",)
        assert known["IGD"].recipe == "igd"


def test_the_papers_name_runs_what_trains_in_reach():
    items = [item for item in ITEMS if item.startswith("duan2023/")]
    assert set(item_names("duan2023")) == set(items) - BY_NAME
    assert "duan2023/cifar" not in item_names("duan2023")
    assert item_names("duan2023/cifar") == ["duan2023/cifar"]
