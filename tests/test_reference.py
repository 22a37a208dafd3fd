"""Reference models: where they are found, and how they come to be."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import torch

from once import barely_tested
from scotoma import reference as ref
from scotoma.data.dataset import Dataset
from scotoma.models.loading import load_model
from scotoma.reference import REFERENCES, Reference, find, missing, reference, seconds_to_train
from scotoma.training import AUGMENTATIONS, RECIPES
from scotoma.training.loop import Schedule
from scotoma.utils.errors import InputError
from scotoma.utils.progress import Progress

TINY = Reference("natural", "digits", "small-cnn", "linf:0.1", Schedule(1, batch=256))


@pytest.fixture(scope="module")
def digits(digits: Dataset) -> Dataset:
    """Evaluations on all test images would take longer than the training."""
    return barely_tested(digits)


@pytest.fixture
def places(tmp_path, monkeypatch) -> dict[str, Path]:
    """An empty zoo, cache and user folder; and a reference model that is in none of them."""
    found = {
        "mine": tmp_path / "mine",
        "zoo": tmp_path / "zoo",
        "cache": tmp_path / "cache" / "models",
    }
    for folder in found.values():
        folder.mkdir(parents=True)
    monkeypatch.setattr(ref, "ZOO", found["zoo"])
    monkeypatch.setenv("SCOTOMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(REFERENCES, "digits-tiny", TINY)
    return found


@pytest.mark.parametrize(
    "name", [name for name in REFERENCES if (ref.ZOO / f"{name}.safetensors").exists()]
)
def test_the_zoo_holds_what_the_table_says(name):
    path = ref.ZOO / f"{name}.safetensors"
    card, wanted = load_model(str(path)).card, REFERENCES[name]
    assert {key: card[key] for key in ("recipe", "data", "arch", "threat")} == {
        key: getattr(wanted, key) for key in ("recipe", "data", "arch", "threat")
    }
    assert card["schedule"].items() <= asdict(wanted.schedule).items()
    assert card.get("augment", []) == [
        repr(AUGMENTATIONS[augmentation]()) for augmentation in wanted.augment
    ]
    defaults = {
        field.name: field.default
        for field in fields(RECIPES[wanted.recipe])
        if field.name != "threat"
    }
    sources = [
        source.split()[0] for source in card["options"].pop("sources", [])
    ]  # a name and the beginning of a hash
    if wanted.begins:
        assert card["start"] == load_model(str(find(wanted.sources[0]))).sha256
    assert sources == list(wanted.sources[wanted.begins :])
    assert card["options"].items() <= (defaults | wanted.options).items()


def test_every_file_of_the_zoo_is_in_the_table():
    assert {path.stem for path in ref.ZOO.glob("*.safetensors")} <= set(REFERENCES)


def test_the_users_folder_comes_before_the_zoo_and_the_zoo_before_the_cache(places):
    assert find("digits-tiny", places["mine"]) is None
    for name in ("cache", "zoo", "mine"):
        path = places[name] / "digits-tiny.safetensors"
        path.touch()
        assert find("digits-tiny", places["mine"]) == path
    assert find("digits-tiny") == places["zoo"] / "digits-tiny.safetensors"


@pytest.mark.parametrize("where", ["mine", None])
def test_a_missing_model_is_trained_once_and_told_before(places, digits, where):
    folder = where and places[where]
    path = (folder or places["cache"]) / "digits-tiny.safetensors"
    told = []
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    seconds_to_train(TINY, digits)
    assert torch.equal(torch.rand(2), expected), "the trial leaves the caller's random numbers"
    made = reference(
        "digits-tiny", digits, folder=folder, say=lambda line: told.append((line, path.exists()))
    )
    again = reference(
        "digits-tiny", digits, folder=folder, say=lambda line: told.append((line, path.exists()))
    )
    assert path.exists()
    assert again.sha256 == made.sha256
    assert len(told) == 1
    line, was_there = told[0]
    assert not was_there
    assert re.search(r"digits-tiny .* 1 epochs\) takes about \d+ s", line)
    assert made.card["schedule"]["batch"] == 256


@pytest.mark.parametrize("schedule", [Schedule(0), Schedule(5)])
def test_a_model_without_training_is_made_at_once_and_kept(places, digits, monkeypatch, schedule):
    wanted = Reference("nearest-neighbour", "digits", "nearest-neighbour", "l2:1.5", schedule)
    monkeypatch.setitem(REFERENCES, "digits-nearest", wanted)
    assert not wanted.has_steps
    assert TINY.has_steps
    assert wanted.batches(digits) == 0
    shown, told = [], []

    class Bars(Progress):
        @contextmanager
        def bar(self, what, total):
            with super().bar(what, total) as advance:
                shown.append((what, total))
                yield advance

    made = reference("digits-nearest", digits, progress=Bars(), say=told.append)
    assert (places["cache"] / "digits-nearest.safetensors").exists()
    assert set(shown) == {("training digits-nearest", 0)}
    assert told == [
        "digits-nearest does not exist yet and needs no training (nearest-neighbour: digits)"
    ]
    images, labels = digits.train.images(torch.arange(50)), digits.train.labels[:50]
    assert torch.equal(made.module(images).argmax(1), labels)
    assert made.module(images).amax(1).eq(0).all(), "float16 has lost nothing of the images"
    monkeypatch.setattr(Reference, "train", lambda *_: pytest.fail("made again"))
    again = reference("digits-nearest", digits, say=told.append)
    assert again.sha256 == made.sha256
    assert len(told) == 1


@pytest.mark.slow
def test_nearest_neighbour_of_mnist_is_made_and_found(places, mnist):
    made = reference("mnist-nearest-neighbour", mnist)
    images, labels = mnist.test.images(torch.arange(200)), mnist.test.labels[:200]
    with torch.no_grad():
        assert (made.module(images).argmax(1) == labels).float().mean() > 0.93
    assert made.card["schedule"]["epochs"] == 0
    assert (places["cache"] / "mnist-nearest-neighbour.safetensors").stat().st_size < 50e6


def test_the_estimate_counts_every_batch_and_every_evaluation(digits, monkeypatch):
    """A training whose first batch takes 10 s, every other 2 s and an evaluation 5 s."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def trained(self, data, out, step, sources):
        assert self.schedule.epochs == 1
        step(0)
        for batch in range(self.batches(data)):
            now[0] += 2 if batch else 10
            step(1)
        now[0] += 2 * 5

    monkeypatch.setattr(Reference, "train", trained)
    wanted = Reference("natural", "digits", "small-cnn", "linf:0.1", Schedule(7, batch=64))
    batches = 7 * -(-1297 // 64)
    assert seconds_to_train(wanted, digits) == pytest.approx(2 * batches + 5 * (7 + 1))


@pytest.fixture
def family(places, monkeypatch) -> dict[str, Path]:
    """Two reference models, one that learns from them, and one that learns from that one."""
    first = replace(TINY, threat="linf:0.1")
    taught = replace(TINY, recipe="ensemble", sources=("digits-tiny", "digits-other"))
    models = {
        "digits-other": first,
        "digits-taught": taught,
        "digits-second": replace(taught, sources=("digits-taught",)),
    }
    for name, wanted in models.items():
        monkeypatch.setitem(REFERENCES, name, wanted)
    return places


def test_sources_are_trained_first_and_once(family, digits):
    folder, told = family["mine"], []
    reference("digits-other", digits, folder=folder)
    assert missing(["digits-second", "digits-tiny"], folder) == [
        "digits-tiny",
        "digits-taught",
        "digits-second",
    ]
    assert missing(["digits-other"], folder) == []
    made = reference(
        "digits-second",
        digits,
        folder=folder,
        say=lambda line: told.append((line, len(list(folder.glob("*.log*"))))),
    )
    assert [(line.split()[0], there) for line, there in told[:-1]] == [
        ("digits-tiny", 1),
        ("digits-taught", 1),
        ("digits-second", 1),
    ], "all is told before any is trained"
    assert re.match(r"these 3 models take about \d+ s together", told[-1][0])
    taught = load_model(str(folder / "digits-taught.safetensors"))
    assert made.card["options"]["sources"] == [f"digits-taught {taught.sha256[:16]}"]
    assert [source.split()[0] for source in taught.card["options"]["sources"]] == [
        "digits-tiny",
        "digits-other",
    ]
    assert taught.card["options"]["step"] == "fgsm"
    assert missing(REFERENCES["digits-second"].sources, folder) == []


def test_the_estimate_tries_a_batch_of_every_source(family, digits, monkeypatch):
    seen = []

    def trained(self, data, out, step, sources):
        seen.append(([source.name for source in sources], len(data.train)))
        step(0)
        step(1)

    monkeypatch.setattr(Reference, "train", trained)
    seconds_to_train(REFERENCES["digits-taught"], digits)
    assert seen == [(["digits-tiny", "digits-other"], min(3 * ref.TRIAL * 256, len(digits.train)))]
    assert not list(family["mine"].iterdir()), "the sources of the trial are stand-ins"


def test_sources_are_references_of_the_same_data():
    for wanted in REFERENCES.values():
        takes = {field.name for field in fields(RECIPES[wanted.recipe])}
        assert ("sources" in takes) == bool(wanted.sources[wanted.begins :])
        assert all(REFERENCES[source].data == wanted.data for source in wanted.sources)


def test_model_b_is_held_out():
    for arch in "abcd":
        for epochs in (6, 12) if arch in "bd" else (12,):
            wanted = REFERENCES[f"tramer-{arch}-ensemble{epochs}"]
            assert wanted.sources == ("tramer-a", "tramer-c", "tramer-d")
            assert (wanted.schedule.epochs, wanted.schedule.batch) == (epochs, 64)
    assert "imagenet-held-out" not in REFERENCES["imagenet-ensemble"].sources


def test_models_of_a_sweep_differ_in_the_threat_alone():
    """And from their remedies in the remedy alone."""
    tenths = ("01", "02", "03")
    for family, sizes in {
        "mnist-small-pgd": tenths,
        "digits-pgd": tenths,
        "cifar-pgd": ("1", "2", "4"),
    }.items():
        sweep = [REFERENCES[f"{family}-{size}"] for size in sizes]
        assert len({wanted.threat for wanted in sweep}) == len(sweep)
        assert all(replace(wanted, threat=sweep[0].threat) == sweep[0] for wanted in sweep)
    for family in ("digits", "mnist-small"):
        full = REFERENCES[f"{family}-pgd-03"]
        assert replace(REFERENCES[f"{family}-natural"], recipe="pgd") == full
        assert replace(REFERENCES[f"{family}-pgd-cutout"], augment=()) == full
        assert replace(REFERENCES[f"{family}-igd"], recipe="pgd", sources=()) == full
    natural, robust = REFERENCES["cifar-natural"], REFERENCES["cifar-robust"]
    assert (
        replace(REFERENCES["cifar-pgd-4"], threat="linf:8/255", schedule=robust.schedule) == robust
    )
    assert natural.arch == robust.arch


def test_unknown_names_and_data_without_a_training_split(digits):
    with pytest.raises(InputError, match="did you mean 'mnist-pgd'"):
        reference("mnist-pdg", digits)
    with pytest.raises(InputError, match="no training split"):
        seconds_to_train(TINY, replace(digits, train=None))
