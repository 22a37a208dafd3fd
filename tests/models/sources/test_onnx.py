"""ONNX programs: black boxes with logits."""

import copy

import pytest
import torch

from scotoma import audit
from scotoma.models.black_box import is_black_box
from scotoma.models.loading import load_model
from scotoma.results.report import read_report
from scotoma.utils.errors import InputError

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
TYPES = onnx.TensorProto


def test_a_program_answers_as_its_network(program, linear, digits, images):
    model = load_model(f"onnx:{program()}")
    assert (model.name, str(model.input)) == ("digits", "8x8 as it is")
    checked = model.checked(digits)
    assert torch.allclose(checked.module(images), linear(images), atol=1e-5)
    assert is_black_box(checked.module)
    assert checked.module.range == (0, 1)
    (note,) = checked.notes
    assert note.startswith("The model is a black box without gradients")
    assert copy.deepcopy(checked.module)(images).shape == (5, 10)


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (4, 1, 8, 8)},
        {"shape": ("n", 64)},
        {"shape": ("n", 8, 8, 1)},
        {"kind": TYPES.DOUBLE},
        {"kind": TYPES.FLOAT16},
        {"labels": True},
    ],
    ids=str,
)
def test_programs_of_other_libraries(program, linear, digits, images, options):
    """Batches of one size, rows of values, channels last, other types, labels beside scores."""
    module = load_model(f"onnx:{program(**options)}").checked(digits).module
    assert torch.allclose(module(images), linear(images), atol=2e-2)


def test_bytes_are_bytes(program, linear, digits, images):
    path = program(kind=TYPES.UINT8, scale=1 / 255)
    module = load_model(f"onnx:{path}").checked(digits).module
    assert module.range == (0, 255)
    assert torch.equal(module(images).argmax(1), linear(images).argmax(1))


def test_the_range_of_pixels_is_found_out_or_said(program, linear, digits, images):
    path = program(scale=1 / 255)
    checked = load_model(f"onnx:{path}").checked(digits)
    assert checked.module.range == (0, 255)
    assert "pixels in [0, 255], because it classifies" in checked.notes[0]
    assert torch.allclose(checked.module(images), linear(images), atol=1e-4)
    classifier = load_model(f"onnx:{path}", value_range="-1:1").checked(digits)
    assert (classifier.module.range, len(classifier.notes)) == ((-1, 1), 1)
    assert classifier.sha256 != checked.sha256


def test_the_hash_follows_the_file(program):
    first = load_model(f"onnx:{program()}").sha256
    assert load_model(f"onnx:{program('other.onnx')}").sha256 == first
    assert load_model(f"onnx:{program(scale=2.0)}").sha256 != first


def test_programs_that_are_none(program, tmp_path):
    path = program()
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:-40])
    (tmp_path / "text.onnx").write_text("no program")
    program("rows.onnx", shape=("n", 8, 8))
    program("ints.onnx", kind=TYPES.INT64)
    expected = {
        "nowhere.onnx": "no such file",
        "": "is a folder",
        "cut.onnx": "cannot be opened",
        "text.onnx": "cannot be opened",
        "rows.onnx": r"input images is tensor\(float\) of shape .*; want images",
        "ints.onnx": r"input images is tensor\(int64\)",
    }
    for name, says in expected.items():
        with pytest.raises(InputError, match=says) as error:
            load_model(f"onnx:{tmp_path / name}")
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="weights=FILE goes with"):
        load_model(f"onnx:{path}", weights=path)


def test_images_of_another_size(program):
    images, labels = torch.rand(20, 1, 9, 9), torch.arange(20) % 10
    with pytest.raises(InputError, match="model digits cannot take images of 1x9x9") as error:
        audit(f"onnx:{program()}", (images, labels), "linf:0.1")
    assert "\n" not in str(error.value)


def test_an_audit_from_the_command_line(program, scotoma, tmp_path, monkeypatch):
    monkeypatch.setattr("scotoma.report.publishing.draw", read_report)
    path = program(scale=1 / 255)
    ended = scotoma(
        *("audit", f"onnx:{path}", "--data", "digits", "--threat", "linf:0.1", "--limit", 10),
        *("--probes", "robustness", "--attack", "square", "--out", tmp_path / "run"),
        *("--range", "0:255", "--outputs", "logits"),
    )
    assert (ended.code, ended.err) == (0, "")
    claim = (tmp_path / "run" / "claim.toml").read_text()
    assert 'range = "0:255"' in claim
    assert 'outputs = "logits"' in claim
    ended = scotoma(
        *("verify", tmp_path / "run", f"onnx:{path}", "--data", "digits"),
        *("--range", "0:255", "--outputs", "logits"),
    )
    assert (ended.code, ended.err) == (0, "")
    ended = scotoma("audit", tmp_path / "run" / "claim.toml", "--out", tmp_path / "run")
    assert (ended.code, ended.err) == (0, "")


def test_weights_beside_a_program_are_part_of_it(program, tmp_path):
    path = program()
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="w.data", size_threshold=0)
    first = load_model(f"onnx:{path}").sha256
    content = bytearray((tmp_path / "w.data").read_bytes())
    content[0] ^= 1
    (tmp_path / "w.data").write_bytes(content)
    assert load_model(f"onnx:{path}").sha256 != first


def test_without_the_library(program, without):
    path = program()
    without("onnxruntime")
    with pytest.raises(InputError, match=r"needs onnxruntime; pip install onnxruntime"):
        load_model(f"onnx:{path}")
