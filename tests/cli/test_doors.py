"""Models by the name of a source on the command line: one line and exit code 2 where they fail."""

import pytest

LIBRARIES = {
    "timm": "timm:resnet18",
    "torchvision": "torchvision:resnet18",
    "robustbench": "robustbench:cifar10/Linf/Standard",
}


@pytest.fixture
def refused(scotoma, tmp_path, monkeypatch):
    """A function that audits a model in an empty folder and returns the one line that refuses."""
    monkeypatch.chdir(tmp_path)

    def audit(model: str, *more: object) -> str:
        ended = scotoma("audit", model, "--data", "digits", "--threat", "linf:0.1", *more)
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
        assert not list(tmp_path.glob("runs"))
        return ended.err

    return audit


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_library(refused, monkeypatch, name):
    monkeypatch.setitem(__import__("sys").modules, name, None)
    message = refused(LIBRARIES[name])
    assert f" needs {name}; pip install torch==2.14.1" in message


def test_names_that_are_none(refused):
    assert "want robustbench:DATASET/THREAT/NAME" in refused("robustbench:Standard")
    assert "unknown data set 'mnist'" in refused("robustbench:mnist/Linf/Standard")
    assert "unknown threat 'linf'; did you mean 'Linf'?" in refused(
        "robustbench:cifar10/linf/Standard"
    )
    assert "hf:./nowhere: no such folder" in refused("hf:./nowhere")
    assert "nowhere.onnx: no such file" in refused("onnx:nowhere.onnx")
    assert "nowhere.py: no such file" in refused("maite:nowhere.py:model")
    assert "names nothing; see `scotoma list sources`" in refused("timm:")


def test_options_of_black_boxes(refused, digits_model):
    assert "--range 0:255 is not for it" in refused(str(digits_model), "--range", "0:255")
    assert "--range white: want LOW:HIGH" in refused(str(digits_model), "--range", "white")
    assert "--outputs votes: want logits or" in refused(str(digits_model), "--outputs", "votes")


def test_a_model_at_chance(refused, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\nclass Net(torch.nn.Module):\n"
        "    def forward(self, x):\n        return x.flatten(1).repeat(1, 12)\n"
        "def features():\n    return Net()\n"
    )
    message = refused("mine.py:features")
    assert "no more than chance" in message
    assert "It has 768 outputs for 10 classes" in message
    assert "--force audits it anyway" in message


def test_sources_are_listed(scotoma):
    listed = scotoma("list", "sources").out
    for name in ("hf", "timm", "torchvision", "robustbench", "onnx", "maite", "defence"):
        assert f"\n  {name} " in listed
