"""Models named `defence:NAME:MODEL`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from scotoma.models.checkpoint import save_checkpoint
from scotoma.models.defences import DEFENCES, defend
from scotoma.models.defences.base import train
from scotoma.models.loading import load_model, save_defended
from scotoma.utils.errors import InputError


@pytest.fixture(autouse=True)
def _hardly_fitted(monkeypatch) -> None:
    """Fit on few images: these tests take any weights."""
    for fitted in ("rebuilt", "logits", "activations"):
        monkeypatch.setattr(f"scotoma.models.defences.{fitted}.train", partial(train, batch=4))


@pytest.fixture
def path(tmp_path, network) -> str:
    card = {"arch": "small-cnn", "shape": [1, 8, 8], "classes": 10}
    save_checkpoint(tmp_path / "digits.safetensors", network, card)
    return str(tmp_path / "digits.safetensors")


def test_a_defended_model_by_name(path, network, tested):
    loaded = load_model(f"defence:jpeg:{path}")
    assert loaded.name == "jpeg:digits"
    assert torch.equal(loaded.module(tested[0]), defend("jpeg", network)(tested[0]))
    assert loaded.sha256 != load_model(f"defence:thermometer:{path}").sha256


def test_defences_nest(path, tested, tmp_path):
    loaded = load_model(f"defence:hard-label:defence:jpeg:{path}")
    assert loaded.name == "hard-label:jpeg:digits"
    save_defended(tmp_path / "nested.safetensors", loaded)
    again = load_model(str(tmp_path / "nested.safetensors"))
    assert torch.equal(again.module(tested[0]), loaded.module(tested[0]))
    assert set(loaded.module(tested[0]).unique().tolist()) == {0, 1}


def test_a_fitted_one_uses_the_data(path, digits, network, training, tested):
    loaded = load_model(f"defence:mean-sparse:{path}", data=digits)
    expected = defend("mean-sparse", network, *training)
    assert torch.equal(loaded.module(tested[0]), expected(tested[0]))
    for data in (None, replace(digits, train=None)):
        with pytest.raises(InputError, match="fitted on training images"):
            load_model(f"defence:mean-sparse:{path}", data=data)


def test_wrong_names(path):
    with pytest.raises(InputError, match="did you mean 'jpeg'"):
        load_model(f"defence:jpg:{path}")
    with pytest.raises(InputError, match="write defence:jpeg:MODEL"):
        load_model("defence:jpeg")


@pytest.mark.parametrize("name", DEFENCES)
def test_a_saved_defence_is_the_same(path, digits, tested, tmp_path, name):
    loaded = load_model(f"defence:{name}:{path}", data=digits)
    save_defended(tmp_path / "new" / "defended.safetensors", loaded)
    again = load_model(str(tmp_path / "new" / "defended.safetensors"))
    assert again.card == loaded.card
    assert again.card["defence"] == name
    answers = []
    for model in (loaded, again):
        torch.manual_seed(0)
        answers.append(model.module(tested[0]))
    assert torch.equal(*answers)


def test_a_defence_of_code_is_not_saved(path, tmp_path, network):
    code = "from scotoma.models.loading import load_model\n"
    (tmp_path / "mine.py").write_text(f"{code}def build(): return load_model({path!r}).module\n")
    loaded = load_model(f"defence:jpeg:{tmp_path / 'mine.py'}:build")
    assert loaded.name == "jpeg:mine.py:build"
    with pytest.raises(InputError, match="no file can build it again"):
        save_defended(tmp_path / "defended.safetensors", loaded)


def test_the_command_line(scotoma, path, tmp_path):
    listed = scotoma("list", "defences").out
    assert listed.count("\n") == 1 + len(list(DEFENCES))
    assert "Rounds pixels to" in listed
    ended = scotoma(
        *("attack", "fgsm", f"defence:k-winners:{path}", "--data", "digits"),
        *("--threat", "linf:0.1", "--limit", 10, "--out", tmp_path / "run"),
    )
    assert ended.code == 0, ended.err
    assert "records:" in ended.out


def test_defend(scotoma, path, tmp_path):
    out = tmp_path / "defended.safetensors"
    ended = scotoma("defend", "k-winners", path, "--data", "digits", "--out", out)
    assert (ended.code, ended.out) == (0, f"model: {out}\n")
    assert load_model(str(out)).card["defence"] == "k-winners"
    ended = scotoma("defend", "winners", path, "--data", "digits")
    assert ended.code == 2
    assert "did you mean 'k-winners'" in ended.err
