"""Models that the user's own code builds."""

import sys

import pytest
import torch

from scotoma.models.loading import load_model
from scotoma.utils.errors import InputError

LAYERS = """
from torch import nn
WIDTH = {width}
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, WIDTH)
    def forward(self, images):
        return self.fc(images.flatten(1))
"""


def folder(root, width):
    root.mkdir()
    (root / "layers.py").write_text(LAYERS.format(width=width))
    (root / "mine.py").write_text(
        "from layers import Net\ndef build():\n    return Net()\nready = Net()\n"
    )
    return root / "mine.py"


def width(spec) -> int:
    fc = load_model(spec).module.fc
    assert isinstance(fc, torch.nn.Linear)
    return fc.out_features


def test_a_file_imports_its_own_neighbours_not_another_models(tmp_path):
    first, second = folder(tmp_path / "a", 10), folder(tmp_path / "b", 12)
    path = list(sys.path)
    assert [width(f"{file}:build") for file in (first, second, first)] == [10, 12, 10]
    assert sys.path == path
    assert load_model(f"{first}:build").name == "mine.py:build"


def test_a_neighbour_may_be_imported_when_the_function_runs(tmp_path):
    file = folder(tmp_path / "a", 11)
    file.write_text("def build():\n    from layers import Net\n    return Net()\n")
    assert width(f"{file}:build") == 11


def test_a_neighbour_may_lie_in_a_folder_without_init(tmp_path):
    for name, size in (("a", 10), ("b", 12)):
        file = folder(tmp_path / name, size)
        (tmp_path / name / "nets").mkdir()
        (tmp_path / name / "layers.py").rename(tmp_path / name / "nets" / "layers.py")
        file.write_text("from nets.layers import Net as build\n")
        assert width(f"{file}:build") == size


def test_a_class_or_a_built_module_will_do(tmp_path):
    file = folder(tmp_path / "a", 10)
    assert width(f"{file}:Net") == 10
    assert width(f"{file}:ready") == 10


def test_a_file_named_as_a_library_does_not_replace_it(tmp_path):
    folder(tmp_path / "a", 10).rename(tmp_path / "a" / "safetensors.py")
    import safetensors

    assert width(f"{tmp_path / 'a' / 'safetensors.py'}:build") == 10
    assert sys.modules["safetensors"] is safetensors


def test_a_dotted_module_in_the_working_folder(tmp_path, monkeypatch):
    folder(tmp_path / "scotoma_test_package", 10)
    (tmp_path / "scotoma_test_package" / "mine.py").write_text(
        "from .layers import Net\ndef build():\n    return Net()\n"
    )
    monkeypatch.chdir(tmp_path)
    loaded = load_model("scotoma_test_package.mine:build")
    assert loaded.name == "scotoma_test_package.mine:build"


@pytest.mark.parametrize(
    ("code", "function", "says"),
    [
        ("def build():\n    pass", "build", r"build\(\) returned NoneType; want a torch.nn.Module"),
        ("def build():\n    return {}", "build", r"build\(\) returned dict"),
        ("def build():\n    pass", "biuld", "no function 'biuld'; did you mean 'build'"),
        ("build = 3", "build", "build is int, not a function"),
        ("def build(size):\n    pass", "build", r"build\(\) raised TypeError: .*'size'"),
        (
            "def build():\n    raise KeyError('weights\\nlost')",
            "build",
            r"build\(\) raised KeyError: ",
        ),
        (
            "def build():\n    raise OSError('one\\ntwo')",
            "build",
            r"build\(\) raised OSError: one$",
        ),
        ("def build(:", "build", "importing it raised SyntaxError"),
        (
            "import no_such_library",
            "build",
            "importing it raised ModuleNotFoundError: No module named 'no_such_library'",
        ),
        ("import sys\nsys.exit(2)", "build", "importing it raised SystemExit: 2"),
        (
            "from torch import nn\ndef build():\n    return nn.LazyLinear(10)",
            "build",
            "has lazy layers without weights",
        ),
    ],
)
def test_code_that_fails_is_one_line(tmp_path, code, function, says):
    file = tmp_path / "mine.py"
    file.write_text(code)
    modules = set(sys.modules)
    with pytest.raises(InputError, match=says) as error:
        load_model(f"{file}:{function}")
    assert "mine.py" in str(error.value)
    assert "\n" not in str(error.value)
    assert not any(name.startswith("mine") for name in set(sys.modules) - modules)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nowhere/mine.py:build", "nowhere/mine.py: no such file"),
        (
            "scotoma_no_package.mine:build",
            "raised ModuleNotFoundError: No module named 'scotoma_no_package'",
        ),
        ("scotoma.models:ARCHITECTURES", "is Table, not a function"),
        ("scotoma.models.small_cnn:smal_cnn", "did you mean 'small_cnn'"),
        ("mine.pt:a b", "want file.py:FUNCTION"),
        ("mine/net.pt:build", "want file.py:FUNCTION"),
        (":build", "want file.py:FUNCTION"),
    ],
)
def test_specs_that_name_nothing(spec, says):
    with pytest.raises(InputError, match=says) as error:
        load_model(spec)
    assert "\n" not in str(error.value)


def test_the_hash_follows_code_settings_and_hidden_buffers(tmp_path):
    code = """
import torch
from torch import nn
class Base(nn.Module):
    def scale(self, images):
        return images * 2
class Net(Base):
    def __init__(self):
        super().__init__()
        self.threshold = 0.5
        self.register_buffer("mean", torch.tensor(0.1), persistent=False)
    def forward(self, images):
        return self.scale(images - self.mean).flatten(1)
def build():
    return Net()
"""
    hashes = []
    for number, (old, new) in enumerate(
        [("", ""), ("", ""), ("0.5", "0.6"), ("0.1", "0.2"), ("images * 2", "images * 3")]
    ):
        file = tmp_path / f"mine{number}.py"
        file.write_text(code.replace(old, new) if old else code)
        hashes.append(load_model(f"{file}:build").sha256)
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4
