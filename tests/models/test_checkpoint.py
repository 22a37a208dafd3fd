"""Weights on disk."""

import errno
import json
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from scotoma.models import checkpoint
from scotoma.models.checkpoint import fit_weights, load_checkpoint, read_weights, save_checkpoint
from scotoma.utils.errors import InputError

CARD = {"arch": "small-cnn", "shape": [1, 8, 8], "classes": 10, "recipe": "natural"}


def test_a_model_comes_back_with_its_card(tmp_path, net, images):
    save_checkpoint(tmp_path / "a.safetensors", net, CARD)
    again, card = load_checkpoint(tmp_path / "a.safetensors")
    assert card == CARD
    assert torch.equal(again(images), net(images))


def test_half_precision_comes_back_as_float32(tmp_path, net, images):
    save_checkpoint(tmp_path / "a.safetensors", net, CARD, torch.float16)
    save_checkpoint(tmp_path / "b.safetensors", net, CARD)
    again, _ = load_checkpoint(tmp_path / "a.safetensors")
    assert {value.dtype for value in again.state_dict().values()} == {torch.float32}
    assert torch.equal(again(images), net.half().float()(images))
    assert (tmp_path / "a.safetensors").stat().st_size < 0.6 * (
        tmp_path / "b.safetensors"
    ).stat().st_size


def test_a_write_that_fails_leaves_what_was_there(tmp_path, net, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, net, CARD)
    before = path.read_bytes()

    def fail(_):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(path, net, CARD)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.safetensors"]  # noqa: PTH208


@pytest.mark.parametrize(
    ("card", "says"),
    [
        ("not json", "its card is damaged"),
        (json.dumps({"arch": "small-cnn"}), "its card is damaged"),
        (json.dumps(CARD | {"shape": [1, 8]}), "its card is damaged"),
        (json.dumps(CARD | {"arch": "small-cn"}), "did you mean 'small-cnn'"),
        (json.dumps(CARD | {"arch": "wong-small"}), "do not fit the architecture"),
        (json.dumps(CARD | {"classes": 11}), r"fc2.* is \(10.*the model's \(11"),
    ],
)
def test_damaged_cards_are_refused(tmp_path, net, card, says):
    path = tmp_path / "a.safetensors"
    save_file(net.state_dict(), path, metadata={checkpoint.KEY: card})
    with pytest.raises(InputError, match=says) as error:
        load_checkpoint(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def same(tensors, net) -> bool:
    expected = net.state_dict()
    return tensors.keys() == expected.keys() and all(
        torch.equal(tensors[name], expected[name]) for name in expected
    )


@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model", "net"])
def test_wrappings_are_taken_off(tmp_path, net, key):
    content = (
        net.state_dict()
        if key is None
        else {key: net.state_dict(), "epoch": 3, "optimizer": {"lr": 0.1}}
    )
    torch.save(content, tmp_path / "a.pt")
    assert same(read_weights(tmp_path / "a.pt"), net)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_prefixes_are_taken_off(tmp_path, net, prefix):
    prefixed = {prefix + name: value + 1 for name, value in net.state_dict().items()}
    expected = {name: value + 1 for name, value in net.state_dict().items()}
    fit_weights(net, prefixed, tmp_path)
    assert same(expected, net)


def test_a_prefix_that_the_model_has_itself_stays(net, tmp_path):
    wrapped = nn.Sequential()
    wrapped.module = net
    fit_weights(
        wrapped, {name: value * 0 for name, value in wrapped.state_dict().items()}, tmp_path
    )
    assert not any(value.any() for value in net.state_dict().values())


def test_the_older_format_of_torch_is_read(tmp_path, net):
    torch.save(net.state_dict(), tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert same(read_weights(tmp_path / "a.pt"), net)


def test_tensors_that_do_not_fit_are_named(net, tmp_path):
    weights = net.state_dict()
    missing = {name: value for name, value in weights.items() if not name.startswith("fc2")}
    with pytest.raises(InputError, match=r"lacks fc2.weight \(and 1 more\)"):
        fit_weights(net, missing, tmp_path)
    with pytest.raises(InputError, match="has fc3, which the model has not"):
        fit_weights(net, weights | {"fc3": torch.ones(1)}, tmp_path)
    with pytest.raises(InputError, match=r"fc2.bias is \(3,\), the model's \(10,\)"):
        fit_weights(net, weights | {"fc2.bias": torch.ones(3)}, tmp_path)


def test_a_pickle_of_a_whole_model_wants_trust(tmp_path, net):
    torch.save(net, tmp_path / "a.pt")
    with pytest.raises(
        InputError, match=r"torch.nn.modules.container.Sequential.*trust_pickle=True"
    ):
        read_weights(tmp_path / "a.pt")
    assert same(read_weights(tmp_path / "a.pt", trust_pickle=True), net)


class Boom:
    def __reduce__(self):
        return exec, ("raise SystemError('the pickle ran')",)


def test_a_pickle_does_not_run_without_trust(tmp_path):
    torch.save({"weight": Boom()}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="trust_pickle=True"):
        read_weights(tmp_path / "a.pt")
    with pytest.raises(InputError, match="SystemError: the pickle ran"):
        read_weights(tmp_path / "a.pt", trust_pickle=True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"epoch": 3, "lr": 0.1}, "no state dict but keys epoch, lr"),
        ({}, "no state dict but nothing"),
        (torch.ones(3), "no state dict but Tensor"),
        ([1, 2], "no state dict but list"),
    ],
)
def test_files_without_a_state_dict_are_refused(tmp_path, content, says):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=says):
        read_weights(tmp_path / "a.pt")


def test_broken_weights_are_refused_in_one_line(tmp_path, net):
    torch.save(net.state_dict(), tmp_path / "whole.pt")
    torch.save(net.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(net.state_dict(), tmp_path / "whole.safetensors")
    broken = {
        "zip.pt": (tmp_path / "whole.pt").read_bytes()[:-100],
        "old_cut.pt": (tmp_path / "old.pt").read_bytes()[:-1000],
        "cut.safetensors": (tmp_path / "whole.safetensors").read_bytes()[:-100],
        "header.safetensors": (tmp_path / "whole.safetensors").read_bytes()[:100],
        "empty.safetensors": b"",
        "empty.pt": b"",
        "text.pt": b"version https://git-lfs.github.com/spec/v1\n",
        "pickle.pt": b"\x80\x04\x95garbage",
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as error:
            read_weights(tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 250 + len(str(tmp_path))
    with pytest.raises(InputError, match="no such file"):
        read_weights(tmp_path / "nowhere.pt")
