"""Reference models: where they are found, and how they come to be."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import torch

from scotoma import reference as ref
from scotoma.errors import InputError
from scotoma.models.loading import load_model
from scotoma.reference import REFERENCES, Reference, find, reference, seconds_to_train, spoken
from scotoma.training import AUGMENTATIONS, RECIPES
from scotoma.training.loop import Schedule

TINY = Reference("natural", "digits", "small-cnn", "linf:0.1", Schedule(1, batch=256))


@pytest.fixture
def places(tmp_path, monkeypatch) -> dict[str, Path]:
    """A zoo, a cache and a folder of the user's, all empty; and a reference model that is in none."""
    found = {name: tmp_path / name for name in ("mine", "zoo", "cache")}
    for folder in found.values():
        folder.mkdir()
    monkeypatch.setattr(ref, "ZOO", found["zoo"])
    monkeypatch.setattr(ref, "_cache", lambda: found["cache"])
    monkeypatch.setitem(REFERENCES, "digits-tiny", TINY)
    return found


@pytest.mark.parametrize("name", list(REFERENCES))
def test_the_zoo_holds_what_the_table_says(name):
    path = ref.ZOO / f"{name}.safetensors"
    if not path.exists():
        pytest.skip(f"{path.name} is not in the zoo")
    card, wanted = load_model(str(path)).card, REFERENCES[name]
    assert {key: card[key] for key in ("recipe", "data", "arch", "threat")} == {
        key: getattr(wanted, key) for key in ("recipe", "data", "arch", "threat")
    }
    assert card["schedule"].items() <= asdict(wanted.schedule).items()
    assert card.get("augment", []) == [repr(AUGMENTATIONS[augmentation]()) for augmentation in wanted.augment]
    defaults = {field.name: field.default for field in fields(RECIPES[wanted.recipe]) if field.name != "threat"}
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
    made = reference("digits-tiny", digits, folder=folder, say=lambda line: told.append((line, path.exists())))
    again = reference("digits-tiny", digits, folder=folder, say=lambda line: told.append((line, path.exists())))
    assert path.exists()
    assert again.sha256 == made.sha256
    assert len(told) == 1
    line, was_there = told[0]
    assert not was_there
    assert re.search(r"digits-tiny .* 1 epochs\) takes about \d+ s", line)
    assert made.card["schedule"]["batch"] == 256


def test_the_estimate_counts_every_batch_and_every_evaluation(digits, monkeypatch):
    """A training whose first batch takes 10 s, every other 2 s and an evaluation 5 s."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def trained(self, data, out, step):
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


def test_unknown_names_and_data_without_a_training_split(digits):
    with pytest.raises(InputError, match="did you mean 'mnist-pgd'"):
        reference("mnist-pdg", digits)
    with pytest.raises(InputError, match="no training split"):
        seconds_to_train(TINY, replace(digits, train=None))


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (40, "40 s"), (720, "12 min"), (12600, "3.5 h")])
def test_times_in_a_sentence(seconds, text):
    assert spoken(seconds) == text
