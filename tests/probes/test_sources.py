"""Which models examples are made on."""

from __future__ import annotations

import fcntl
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scotoma import reference
from scotoma.auditing import make_claim
from scotoma.claim import Claim
from scotoma.data.dataset import ArraySplit, Dataset, from_splits
from scotoma.execution.run import Run
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.probes.transfer import sources as module
from scotoma.probes.transfer.sources import (
    FEWEST,
    MOST,
    is_held_out,
    schedule_for,
    small,
    sources,
    together,
)
from scotoma.reference import Reference
from scotoma.threat import Threat
from scotoma.training.loop import Schedule

THREAT = Threat("linf", 0.1)


@pytest.fixture
def few(digits) -> Dataset:
    """So few digits that a training takes a moment."""
    train = ArraySplit(
        digits.train.images(torch.arange(64)).numpy(), digits.train.labels[:64].numpy(), "few"
    )
    test = ArraySplit(
        digits.test.images(torch.arange(40)).numpy(), digits.test.labels[:40].numpy(), "few"
    )
    return from_splits("few", train, test, digits.classes)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, and trainings of two epochs."""
    monkeypatch.setenv("SCOTOMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "schedule_for", lambda images: Schedule(2, 32))
    return tmp_path / "cache" / "sources"


@pytest.fixture
def trainings(monkeypatch) -> list[str]:
    """The architectures that were trained, in turn."""
    made: list[str] = []
    train = Reference.train

    def counted(self: Reference, *given) -> None:
        made.append(self.arch)
        train(self, *given)

    monkeypatch.setattr(Reference, "train", counted)
    return made


def start(data: Dataset, folder: Path, model: nn.Module | Classifier) -> tuple[Claim, Run]:
    claim = make_claim(model, data, THREAT)
    return claim, Run(claim, folder)


def dense(seed: int, width: int = 64, classes: int = 10) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(width, classes))


def carded(module: nn.Module, **card) -> Classifier:
    return Classifier.of(module, card=card)


def test_two_small_networks_are_trained_once(tmp_path, few, cache, trainings):
    claim, run = start(few, tmp_path / "run", dense(0))
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = sources(claim, run)
    assert torch.equal(torch.rand(2), expected), "the caller's random numbers are left alone"
    assert trainings == ["wong-small", "tramer-d"]
    assert [source.name for source in first] == trainings
    assert all(source.held_out for source in first)
    assert first[0].trained == "for this probe: natural, wong-small, 2 epochs on few"
    again = sources(*start(few, tmp_path / "other", dense(1)))
    assert [source.model.sha256 for source in again] == [source.model.sha256 for source in first]
    assert len(trainings) == 2
    assert len(list(cache.rglob("*.safetensors"))) == 2
    assert not list(cache.rglob("*.checkpoint"))


def test_other_data_are_other_networks(tmp_path, few, cache, trainings):
    turned = ArraySplit(
        few.train.images(torch.arange(64)).flip(3).numpy(), few.train.labels.numpy(), "few"
    )  # type: ignore[union-attr]
    for data in (few, from_splits("few", turned, few.test, few.classes)):  # type: ignore[arg-type]
        small("wong-small", data, start(data, tmp_path / data.sha256, dense(0))[1])
    assert trainings == ["wong-small"] * 2


def test_of_many_images_a_part_is_read(tmp_path, few, cache, monkeypatch):
    monkeypatch.setattr(module, "VALUES", 2 * 64 * 40)
    _, run = start(few, tmp_path / "run", dense(0))
    read = []
    images = few.train.images  # type: ignore[union-attr]
    monkeypatch.setattr(
        few.train, "images", lambda indices: read.append(indices) or images(indices)
    )
    small("wong-small", few, run)
    assert torch.cat(read).unique().numel() == 40
    assert torch.cat(read).numel() == 2 * 40


@pytest.mark.parametrize(
    ("images", "epochs", "batch"),
    [(1297, 12, 32), (60_000, 3, 128), (50_000, 4, 128), (10, 40, 32), (10**7, 1, 128)],
)
def test_how_long_a_training_is(images, epochs, batch):
    schedule = schedule_for(images)
    assert (schedule.epochs, schedule.batch) == (epochs, batch)


def test_a_second_audit_waits_for_the_training_of_the_first(
    tmp_path, few, cache, trainings, monkeypatch
):
    """Whoever holds the lock has put the file there by the time that it is let go."""
    run = start(few, tmp_path / "run", dense(0))[1]
    made = small("wong-small", few, run)
    path = next(cache.rglob("*.safetensors"))
    hidden = path.rename(path.with_suffix(".hidden"))
    flock = fcntl.flock

    def held(file, operation):
        flock(file, operation)
        hidden.rename(path)

    monkeypatch.setattr(fcntl, "flock", held)
    assert small("wong-small", few, run).sha256 == made.sha256
    assert trainings == ["wong-small"]


def test_where_the_cache_cannot_be_written_the_run_folder_is_used(tmp_path, few, monkeypatch):
    (tmp_path / "file").write_text("text")
    monkeypatch.setattr(module, "schedule_for", lambda images: Schedule(1, 32))
    monkeypatch.setenv("SCOTOMA_CACHE", str(tmp_path / "file"))
    small("wong-small", few, start(few, tmp_path / "run", dense(0))[1])
    assert len(list((tmp_path / "run" / "sources").rglob("wong-small.safetensors"))) == 1


def test_images_too_small_for_convolutions(tmp_path, cache, trainings):
    rng = np.random.default_rng(0)
    train, test = (
        ArraySplit(rng.random((40, 1, 3, 3), np.float32), np.arange(40) % 2, "tiny")
        for _ in range(2)
    )
    claim, run = start(from_splits("tiny", train, test), tmp_path / "run", dense(0, 9, 2))
    assert [source.name for source in sources(claim, run)] == ["tramer-d"]


def test_without_a_training_split_there_are_only_the_users(tmp_path, few, cache, trainings):
    claim, run = start(replace(few, train=None), tmp_path / "run", dense(0))
    assert sources(claim, run) == ()
    given = replace(load_model(dense(1)).checked(few), name="mine")
    (source,) = sources(claim, run, [given])
    assert (source.model, source.held_out, source.trained) == (given, True, "not known")
    assert trainings == []


@pytest.fixture
def shelf(tmp_path, few, cache, monkeypatch) -> dict[str, Path]:
    """Available reference models: four natural ones for these data, and others to be ignored."""
    kinds = {"gone": ("natural", "few"), "robust": ("pgd", "few"), "foreign": ("natural", "digits")}
    kinds |= {f"natural-{number}": ("natural", "few") for number in range(4)}
    references, files = {}, {}
    for number, (name, (recipe, data)) in enumerate(kinds.items()):
        references[name] = Reference(recipe, data, "small-cnn", "linf:0.1", Schedule(1, 64))
        if name.startswith("natural"):
            files[name] = tmp_path / "shelf" / f"{name}.safetensors"
            replace(references[name], schedule=Schedule(1, 32 + number)).train(
                few, files[name], lambda steps: None
            )
    monkeypatch.setattr(module, "REFERENCES", references)
    monkeypatch.setattr(module, "in_zoo", lambda name: files.get(name))
    return files


def test_reference_models_that_are_there_come_first(tmp_path, few, shelf, trainings):
    claim, run = start(few, tmp_path / "run", dense(0))
    result = sources(claim, run)
    assert [source.name for source in result] == ["natural-0", "natural-1", "natural-2"]
    assert len(result) == MOST
    assert result[0].trained == "reference model: natural, small-cnn, 1 epochs on few"
    assert trainings == []
    for name in ("natural-1", "natural-2", "natural-3"):
        del shelf[name]
    assert [source.name for source in sources(claim, run)] == ["natural-0", "wong-small"]
    assert trainings == ["wong-small"]


def test_what_was_reproduced_here_before_changes_no_audit(tmp_path, few, shelf, cache, monkeypatch):
    """Reference models that a reproduction left in the cache are no sources."""
    models = cache.parent / "models"
    models.mkdir(parents=True)
    for name, path in shelf.items():
        (models / f"{name}.safetensors").write_bytes(path.read_bytes())
    monkeypatch.setattr(module, "in_zoo", reference.in_zoo)
    assert reference.find("natural-0") is not None
    result = sources(*start(few, tmp_path / "run", dense(0)))
    assert not any(source.trained.startswith("reference model") for source in result)


def test_reference_models_that_the_audited_one_is_or_saw_are_left(tmp_path, few, shelf, trainings):
    audited = load_model(str(shelf["natural-0"]))
    second = load_model(str(shelf["natural-1"]))
    seeing = replace(
        audited, card=audited.card | {"options": {"sources": [f"natural-1 {second.sha256[:16]}"]}}
    )
    claim, run = start(few, tmp_path / "run", seeing)
    assert [source.name for source in sources(claim, run)] == ["natural-2", "natural-3"]
    assert len(sources(claim, run)) == FEWEST


def test_held_out_by_hash_and_never_by_name():
    source, other = (load_model(dense(seed)) for seed in (1, 2))
    seen = f"any/path with spaces {source.sha256[:16]}"
    for card, held_out in (
        ({}, True),
        ({"options": {"sources": [seen]}}, False),
        ({"options": {"sources": [f"x {other.sha256[:16]}", seen]}}, False),
        ({"options": {"sources": [f"{source.name} {other.sha256[:16]}"]}}, True),
        ({"options": {"sources": []}}, True),
        ({"options": {"sources": [source.name, ""]}}, True),
        ({"options": {"sources": "text"}}, True),
        ({"options": None}, True),
        ({"options": ["sources"]}, True),
        ({"start": source.sha256}, False),
        ({"start": None}, True),
    ):
        assert is_held_out(carded(dense(0), **card), source) is held_out, card
    assert not is_held_out(source, replace(source, name="copy")), "of itself"


def test_sources_in_the_users_order_each_once_and_with_a_name_of_its_own(tmp_path, few):
    claim, run = start(few, tmp_path / "run", dense(0))
    first, second = (load_model(dense(seed)).checked(few) for seed in (1, 2))
    named = replace(second, name="all together")
    result = sources(claim, run, [first, second, first, named])
    assert [source.model.sha256 for source in result] == [first.sha256, second.sha256]
    names = [source.name for source in result]
    assert names == [f"Sequential {first.sha256[:8]}", f"{named.name} {second.sha256[:8]}"]
    assert len({claim.model.name, *names}) == 3
    (alone,) = sources(claim, run, [replace(first, name="mine")])
    assert alone.name == "mine"


def test_together_is_the_mean_of_the_log_probabilities(few):
    models = [load_model(dense(1)), load_model(dense(2, classes=12))]
    joint = together(models, 10)
    images = few.test.images(torch.arange(5)).requires_grad_()
    answers = [model.module(images).log_softmax(1)[:, :10] for model in models]
    assert torch.allclose(joint.module(images), (answers[0] + answers[1]) / 2)
    assert joint.module(images).requires_grad
    assert joint.sha256 not in {model.sha256 for model in models}
    assert joint.sha256 != together(models[::-1], 10).sha256
    assert joint.checked(few).notes == ()


def test_the_environment_names_the_cache():
    assert "pytest" in os.environ["SCOTOMA_CACHE"], "tests do not write to the user's"
