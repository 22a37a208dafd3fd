"""Every kind of model that is taken, and every file that is not one."""

import logging
import subprocess
import sys
import warnings
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from scotoma.models.checkpoint import save_checkpoint
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.utils.errors import InputError

CARD = {"arch": "small-cnn", "shape": [1, 8, 8], "classes": 10}
CODE = """from scotoma.models import ARCHITECTURES
def build():
    return ARCHITECTURES['small-cnn']((1, 8, 8), 10)
"""


@pytest.fixture
def code(tmp_path) -> str:
    (tmp_path / "mine.py").write_text(CODE)
    return f"{tmp_path / 'mine.py'}:build"


def export(net, path, images, **options) -> str:
    torch.export.save(torch.export.export(net.eval(), (images,), **options), path)
    return str(path)


def trace(net, path, images) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.jit.trace(net.eval(), images)
    assert isinstance(program, torch.jit.ScriptModule)
    program.save(str(path))
    return str(path)


def test_a_module_is_frozen_and_a_classifier_passes_through(net):
    loaded = load_model(net)
    assert loaded.name == "Sequential"
    assert not any(part.training for part in net.modules())
    assert not any(value.requires_grad for value in net.parameters())
    assert load_model(loaded) is loaded


def test_the_hash_follows_the_weights(net):
    first = load_model(net).sha256
    assert load_model(net.train()).sha256 == first
    with torch.no_grad():
        net.fc2.bias[0] += 1
    assert load_model(net).sha256 != first


def test_our_own_file(tmp_path, net, images):
    save_checkpoint(
        tmp_path / "digits-natural.safetensors", net, CARD | {"recipe": "natural"}, torch.float16
    )
    loaded = load_model(str(tmp_path / "digits-natural.safetensors"))
    assert (loaded.name, loaded.card["recipe"]) == ("digits-natural", "natural")
    assert loaded.module(images).dtype == torch.float32
    assert torch.equal(loaded.module(images), net.half().float()(images))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_code_with_weights(tmp_path, net, images, code, name):
    save_file(net.state_dict(), tmp_path / name) if name.endswith("s") else torch.save(
        net.state_dict(), tmp_path / name
    )
    loaded = load_model(code, tmp_path / name)
    assert loaded.name == "mine.py:build"
    assert torch.equal(loaded.module(images), net(images))
    assert loaded.sha256 == load_model(code, str(tmp_path / name)).sha256 == load_model(net).sha256


def test_a_misspelt_source_of_models():
    with pytest.raises(InputError, match=r"neither a module .* did you mean 'timm'"):
        load_model("tim:resnet50")
    with pytest.raises(InputError, match=r"neither a module .* known: .*onnx"):
        load_model("no_such_module:build")


def test_a_module_with_weights(tmp_path, net, images):
    torch.save(net.state_dict(), tmp_path / "w.pt")
    expected = net(images)
    for value in net.parameters():
        nn.init.zeros_(value)
    assert torch.equal(load_model(net, tmp_path / "w.pt").module(images), expected)


def test_weights_that_want_trust(tmp_path, net, images, code):
    torch.save(net, tmp_path / "w.pt")
    with pytest.raises(InputError, match="trust_pickle=True"):
        load_model(code, tmp_path / "w.pt")
    assert torch.equal(
        load_model(code, tmp_path / "w.pt", trust_pickle=True).module(images), net(images)
    )


def test_weights_where_they_do_not_belong(tmp_path, net, images):
    torch.save(net.state_dict(), tmp_path / "w.pt")
    save_checkpoint(tmp_path / "a.safetensors", net, CARD)
    for model in (Classifier.of(net), str(tmp_path / "a.safetensors")):
        with pytest.raises(InputError, match="weights=FILE goes with"):
            load_model(model, tmp_path / "w.pt")
    scripted = trace(net, tmp_path / "t.pt", images)
    with pytest.raises(InputError, match="is a whole model"):
        load_model(net, scripted)


@pytest.mark.parametrize("name", ["model.pt", "model.pt2", "model"])
def test_torchscript_under_any_name_without_noise(tmp_path, net, images, digits, name, capfd):
    path = trace(net, tmp_path / name, images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_model(path)
    assert loaded.name == "model"
    assert torch.allclose(loaded.module(images), net(images), atol=1e-6)
    assert loaded.sha256 == load_model(path).sha256
    assert loaded.checked(digits).notes == ()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["model.pt2", "model.pt"])
def test_exported_programs_want_trust_and_are_quiet(tmp_path, net, images, digits, name, capfd):
    path = export(net, tmp_path / name, images, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    with pytest.raises(InputError, match="trust_pickle=True"):
        load_model(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_model(path, trust_pickle=True)
    assert loaded.name == "model"
    assert torch.allclose(loaded.module(images), net(images), atol=1e-6)
    assert loaded.checked(digits).notes == ()
    assert capfd.readouterr() == ("", "")


def test_an_exported_program_could_run_code(tmp_path, net, images):
    """The reason for trust: torch evaluates size expressions. If this fails, ease the rule."""
    path = export(
        net, tmp_path / "good.pt2", images, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
    )
    trap = f"__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()"
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(tmp_path / "evil.pt2", "w") as evil:
        for entry in good.infolist():
            content = good.read(entry)
            if entry.filename.endswith("model.json"):
                head, key, tail = content.partition(b'"expr_str": "')
                assert key
                content = head + key + trap.encode() + tail[tail.index(b'"') :]
            evil.writestr(entry.filename, content)
    with pytest.raises(InputError, match="trust_pickle=True"):
        load_model(str(tmp_path / "evil.pt2"))
    assert not (tmp_path / "ran").exists()
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(str(tmp_path / "evil.pt2"), trust_pickle=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("size", [1, 2, 32])
def test_an_exported_program_of_one_batch_size(tmp_path, net, digits, size):
    path = export(net, tmp_path / "model.pt2", torch.rand(size, 1, 8, 8))
    with pytest.raises(InputError, match=r"fails on a batch of \d+ \(.*dynamic_shapes") as error:
        load_model(path, trust_pickle=True).checked(digits)
    assert "\n" not in str(error.value)


class OfTwo(nn.Module):
    def forward(self, images):
        return images.reshape(2, 64)[:, :10] + torch.zeros(2, 10)


def test_a_trace_of_one_batch_size(tmp_path, digits):
    path = trace(OfTwo(), tmp_path / "model.pt", torch.rand(2, 1, 8, 8))
    with pytest.raises(InputError, match=r"fails on a batch of 32 \(shape '\[2, 64\]' is invalid"):
        load_model(path).checked(digits)


def test_files_that_are_no_models(tmp_path, net, images):
    save_file(net.state_dict(), tmp_path / "bare.safetensors")
    torch.save(net.state_dict(), tmp_path / "state.pt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    trace(net, tmp_path / "t.pt", images)
    export(net, tmp_path / "e.pt2", images)
    for name, source, cut in (
        ("t_cut.pt", "t.pt", 3000),
        ("e_cut.pt2", "e.pt2", -10),
        ("s_cut.safetensors", "bare.safetensors", -1),
    ):
        (tmp_path / name).write_bytes((tmp_path / source).read_bytes()[:cut])
    (tmp_path / "model.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "mine.py").write_text(CODE)
    expected = {
        "bare.safetensors": r"my_model.py:build weights=.*bare.safetensors",
        "state.pt": r"my_model.py:build weights=.*state.pt",
        "other.zip": "neither TorchScript",
        "t_cut.pt": "cut short",
        "e_cut.pt2": "cut short",
        "s_cut.safetensors": "not a whole safetensors file",
        "model.onnx": "write onnx:.*model.onnx",
        "empty.pt": "not a model; give safetensors",
        "mine.py": r"name the function .*mine.py:FUNCTION",
        "": "is a folder",
        "nowhere.pt": "no such file",
    }
    for name, says in expected.items():
        for trust in (False, True):
            with pytest.raises(InputError, match=says) as error:
                load_model(str(tmp_path / name), trust_pickle=trust)
            assert "\n" not in str(error.value)
            assert name in str(error.value)


@pytest.mark.parametrize("kind", ["t.pt", "e.pt2"])
def test_programs_with_damaged_entries(tmp_path, net, images, kind, capfd):
    path = (trace if kind == "t.pt" else export)(net, tmp_path / kind, images)
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(tmp_path / "bad", "w") as bad:
        for entry in good.infolist():
            broken = entry.filename.endswith(("data.pkl", "model.json"))
            bad.writestr(entry.filename, b"{broken" if broken else good.read(entry))
    with pytest.raises(InputError, match="cannot be loaded") as error:
        load_model(str(tmp_path / "bad"), trust_pickle=True)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == 0


def test_loading_is_not_paid_for_at_import():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, scotoma.models; assert 'torch' not in sys.modules"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_pickled_model_is_a_model(tmp_path, net, images):
    torch.save(net, tmp_path / "whole.pt")
    torch.save({"model": net, "epoch": 3}, tmp_path / "inside.pt")
    with pytest.raises(InputError, match=r"not only tensors, .*trust_pickle=True"):
        load_model(tmp_path / "whole.pt")
    for name in ("whole", "inside"):
        loaded = load_model(tmp_path / f"{name}.pt", trust_pickle=True)
        assert loaded.name == name
        assert torch.equal(loaded.module(images), net(images))


def test_pickles_of_other_things_are_named(tmp_path, net):
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    for trust in (False, True):
        with pytest.raises(InputError, match="a pickle of weights, without code"):
            load_model(tmp_path / "weights.pt", trust_pickle=trust)
        with pytest.raises(InputError, match="no state dict but Tensor"):
            load_model(tmp_path / "tensor.pt", trust_pickle=trust)


def test_a_pickled_model_needs_its_code(tmp_path, monkeypatch):
    """A class of a file in the working folder is found; without that file a line says why."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "homemade.py").write_text(
        "from torch import nn\nclass Net(nn.Sequential):\n    pass\n"
        "def build():\n    return Net(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    built = load_model("homemade:build").module
    torch.save(built, "net.pt")
    assert isinstance(load_model("net.pt", trust_pickle=True).module, nn.Sequential)
    (tmp_path / "homemade.py").unlink()
    sys.modules.pop("homemade", None)
    with pytest.raises(InputError, match="code of its model cannot be imported"):
        load_model("net.pt", trust_pickle=True)
