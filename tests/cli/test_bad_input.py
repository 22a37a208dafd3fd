"""Invalid input gives one line on standard error and exit code 2, and overwrites nothing."""

import errno
import pickle
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from processes import Process
from scotoma.data.digits import digits as load_digits
from scotoma.execution import store
from scotoma.models.checkpoint import read_safetensors
from scotoma.utils.files import read_json


class Ended(NamedTuple):
    """How a process ended, as the fixture `scotoma` tells of a command."""

    code: int | None
    out: str
    err: str


def told(ended, says: str) -> None:
    assert ended.code == 2, ended
    assert ended.err.startswith("scotoma: ")
    assert ended.err.count("\n") == 1
    assert ended.err.endswith("\n")
    assert says in ended.err
    assert ended.out == ""


def in_a_process(*args: object, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "scotoma", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


@pytest.fixture
def audit(scotoma, digits_model, tmp_path, monkeypatch):
    """An audit that would go well, in an empty folder, with some of its arguments changed."""
    monkeypatch.chdir(tmp_path)

    def run(
        *more: object,
        model: object = digits_model,
        data: object = "digits",
        threat: str = "linf:0.1",
    ):
        options = {"--attack": "fmn-linf", "--limit": 10, "--out": "run"}
        options |= dict(zip(more[::2], more[1::2], strict=True))
        rest = [item for pair in options.items() for item in pair]
        return scotoma("audit", model, "--data", data, "--threat", threat, *rest)

    return run


def test_in_a_process_of_its_own(tmp_path, digits_model):
    """One start is from nothing, as a user's; the others find torch imported."""
    common = ("--data", "digits", "--threat", "linf:0.1")
    (tmp_path / "file").write_text("text")
    for args, says in (
        (("audit", "missing.safetensors", *common), "missing.safetensors: no such file"),
        (("audit", digits_model, *common, "--out", "file/run", "--limit", "5"), "file"),
    ):
        done = Process(tmp_path, [*map(str, args)])
        out, err = done.communicate()
        told(Ended(done.returncode, out, err), says)
    done = in_a_process("audit", digits_model, "--data", "digits", cwd=tmp_path)
    told(Ended(done.returncode, done.stdout, done.stderr), "--threat")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "text"


def test_model_files(audit, digits_model, tmp_path):
    whole = digits_model.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    told(audit(model="cut.safetensors"), "not a whole safetensors file")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps({"weights": [1, 2]}))
    told(audit(model="bare.pkl"), "a pickle")
    torch.save({"a": torch.zeros(2)}, tmp_path / "weights.pt")
    told(audit(model="weights.pt"), "a pickle of weights")
    told(audit(model="missing.pt"), "no such file")
    told(audit(model="."), "is a folder")
    told(audit(model="missing.py:build"), "missing.py")
    tensors, metadata = read_safetensors(digits_model)
    save_file(tensors | {"fc2.bias": torch.zeros(11)}, tmp_path / "odd.safetensors", metadata)
    told(audit(model="odd.safetensors"), "do not fit the architecture: fc2.bias")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("logits", "says"),
    [
        ("x.flatten(1)[:, :7]", "has 7 outputs"),
        ("x", "want logits of shape"),
        ("x.flatten(1)[:, :10] / 0", "NaN or infinite"),
        ("x.flatten(1)[:, :10] + float('inf')", "NaN or infinite"),
        ("x.flatten(1) @ torch.zeros(784, 10)", "cannot take images of 1x8x8"),
    ],
)
def test_logits(audit, tmp_path, logits, says):
    head = "import torch\ndef build():\n    return M()\n"
    code = f"{head}class M(torch.nn.Module):\n    def forward(self, x):\n        return {logits}\n"
    (tmp_path / "mine.py").write_text(code)
    told(audit(model="mine.py:build"), says)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x_test": np.full((20, 8, 8), 1.5, np.float32)}, "pixels reach from 1.5"),
        ({"x_test": np.full((20, 8, 8), np.nan, np.float32)}, "some pixels are NaN"),
        ({"x_test": np.zeros((20, 9, 8), np.float32)}, "test images (1, 9, 8)"),
        (
            {
                "x_test": np.zeros((20, 28, 28), np.float32),
                "x_train": np.zeros((20, 28, 28), np.float32),
            },
            "cannot take images of 1x28x28",
        ),
        ({"y_test": np.arange(20) - 1}, "labels reach from -1"),
        ({"y_test": np.arange(20), "y_train": np.arange(20)}, "labels up to 19"),
    ],
)
def test_images_and_labels(audit, tmp_path, change, says):
    images, labels = np.zeros((20, 8, 8), np.float32), np.arange(20) % 10
    np.savez(
        tmp_path / "mine.npz",
        **{"x_train": images, "y_train": labels, "x_test": images, "y_test": labels} | change,
    )
    told(audit(data="npz:mine.npz"), says)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "eps", ["0", "-0.1", "1.5", "8/0", "-8/255", "nan", "inf", "much", "", "1/2/3"]
)
def test_eps(audit, tmp_path, eps):
    told(audit(threat=f"linf:{eps}"), "eps")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--attack", "fmn-lnf"), "did you mean 'fmn-linf'?"),
        (("--probes", "robustnes"), "did you mean 'robustness'?"),
        (("--probes", "distance,"), "unknown probe ''"),
        (("--limit", "0"), "--limit 0"),
        (("--limit", "-1"), "--limit -1"),
        (("--limit", "ten"), "--limit"),
        (("--seed", "-1"), "--seed"),
        (("--layer", "fc3"), "did you mean 'fc2'?"),
        (("--atack", "pgd"), "--atack"),
        (("--bounds", "l2"), "--bounds l2: threat 'l2' has no size"),
        (("--bounds", "l2:1,l0:2,l2:2"), "L2 is given twice"),
        (("--bounds", "l1:3"), "L1 is not measured"),
        (("--bounds", "linf:0.2"), "its own bound counts: --threat linf:0.1"),
    ],
)
def test_names_and_numbers(audit, tmp_path, args, says):
    told(audit(*args), says)
    assert not (tmp_path / "run" / "units").exists()


def test_other_names(audit, scotoma, tmp_path, digits_model):
    told(audit(data="digit"), "did you mean 'digits'?")
    told(audit(threat="lnf:0.1"), "did you mean 'linf'?")
    told(audit(threat="0.1"), "no norm")
    common = ("--data", "digits", "--threat", "linf:0.1")
    train = ("--arch", "small-cnn", "--out", "a.safetensors")
    told(scotoma("attack", "pdg", digits_model, *common), "did you mean 'pgd'?")
    told(scotoma("train", "naturl", *common, *train), "did you mean 'natural'?")
    told(scotoma("train", "pgd", *common, *train, "--arch", "small"), "small-cnn")
    told(scotoma("train", "natural", *common, *train, "--option", "steps=3"), "no option 'steps'")
    told(scotoma("train", "pgd", *common, *train, "--option", "step=3"), "did you mean 'steps'")
    told(scotoma("train", "pgd", *common, *train, "--option", "steps"), "write it as NAME=VALUE")
    told(scotoma("train", "pgd", *common, *train, "--option", "steps=2.5"), "want a whole number")
    other = ("--arch", "wong-small", "--start", digits_model)
    told(scotoma("train", "pgd", *common, *other), "is small-cnn; leave --arch out")
    told(scotoma("train", "pgd", *common[:2]), "give --arch NAME and --threat NORM:SIZE: recipe")
    told(scotoma("train", "ensemble", *common, *train), "set --sources MODEL,MODEL")
    told(
        scotoma("train", "ensemble", *common, *train, "--sources", "missing.safetensors"),
        "missing.safetensors",
    )
    told(
        scotoma("train", "pgd", *common, *train, "--sources", "missing.safetensors"),
        "no option 'sources'",
    )
    told(scotoma("list", "attack"), "did you mean 'attacks'?")
    told(scotoma("adit"), "Did you mean 'audit'?; see `scotoma --help`")
    told(scotoma("audit", digits_model), "--data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("undrawn")
def test_no_training_split(audit, scotoma, tmp_path):
    test = load_digits().test
    images = test.images(torch.arange(60)).numpy()
    np.savez(tmp_path / "mine.npz", x_test=images, y_test=test.labels[:60].numpy())
    # the probes that compare with training images or train, and one that does neither
    probes = "robustness,distance,divergence,inequality,transfer"
    ended = audit("--probes", probes, data="npz:mine.npz")
    assert (ended.code, ended.err) == (0, "")
    assert "not applicable" in ended.out
    train = (
        "--data",
        "npz:mine.npz",
        "--arch",
        "small-cnn",
        "--threat",
        "linf:0.1",
        "--out",
        "a.safetensors",
    )
    told(scotoma("train", "pgd", *train), "no training split")


@pytest.mark.usefixtures("undrawn")
def test_run_folders(audit, scotoma, tmp_path):
    assert audit("--probes", "robustness").code == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    told(audit(threat="linf:0.2"), "the run of another claim")
    told(audit("--limit", "0"), "--limit 0")
    with store.Store(tmp_path / "run", read_json(tmp_path / "run" / "claim.json")).locked():
        told(audit(), "another audit is writing there")
    assert {path: path.read_bytes() for path in before} == before
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("chapter 1")
    told(audit("--out", "work"), "is not empty and not a run")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["thesis.tex"]
    told(scotoma("report", "work"), "findings.json: no such file")
    told(scotoma("report", "nowhere"), "findings.json: no such file")
    (tmp_path / "work" / "findings.json").write_text("[]")
    told(scotoma("report", "work"), "schema")


@pytest.mark.parametrize("out", ["/proc/run", "/dev/null/run"])
def test_folders_that_cannot_be_written(audit, out):
    told(audit("--out", out), out.rpartition("/")[0])


def test_a_read_only_folder(audit, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "run")

    monkeypatch.setattr(Path, "mkdir", refuse)
    told(audit(), "run: Permission denied")


@pytest.mark.parametrize("command", ["audit", "attack", "train"])
def test_a_full_disk(tmp_path, digits_model, command):
    """A limit on file sizes replaces a full disk: the write fails there with another number."""
    common = ("--data", "digits", "--threat", "linf:0.1")
    args = {
        "audit": (
            "audit",
            digits_model,
            *common,
            "--attack",
            "fmn-linf",
            "--limit",
            20,
            "--out",
            "run",
        ),
        "attack": ("attack", "fmn-linf", digits_model, *common, "--limit", 20, "--out", "run"),
        "train": (
            "train",
            "natural",
            *common,
            "--arch",
            "small-cnn",
            "--epochs",
            1,
            "--out",
            "a.safetensors",
        ),
    }[command]
    done = Process(tmp_path, [*map(str, args)], files=900)
    out, err = done.communicate()
    told(Ended(done.returncode, out, err), "File too large")
    assert ("a.safetensors" if command == "train" else "run/units/") in err
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == (set() if command == "train" else {"claim.json", ".lock"})


def test_stopped_by_hand(audit, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("scotoma.execution.run.Run.attack", stop)
    ended = audit()
    assert ended.code == 130
    assert ended.err.strip() == "stopped; the same command continues from here"


def test_image_files(audit, scotoma, tmp_path):
    for name, size in (("ant", (9, 8)), ("dog", (8, 8))):
        (tmp_path / "images/test" / name).mkdir(parents=True)
        Image.new("L", size).save(tmp_path / "images/test" / name / "0.png")
    told(audit(data="folder:images"), "give --size 224, or --resize 256 with --crop 224")
    told(audit("--size", "8", "--resize", "9", data="folder:images"), "contradict each other")
    told(audit("--resize", "9", data="folder:images"), "add --crop 9")
    told(audit("--size", "8", data="digits"), "--size 8 is for images that are decoded from files")
    told(audit("--size", "12", data="folder:images"), "cannot take images of 1x12x12")
    told(audit("--train", "folder:nowhere", "--size", "8", data="folder:images"), "no such folder")
    (tmp_path / "images/test/dog/1.png").write_text("text")
    told(audit("--size", "8", data="folder:images"), "dog/1.png: cannot be read as an image")
    told(audit("--on-error", "ask", data="folder:images"), "want refuse or skip")
    assert not (tmp_path / "run").exists()


def test_options_of_probes_that_do_not_run(audit):
    told(
        audit("--probes", "norms,masking", "--layer", "0"),
        "--layer 0 is an option of distance and divergence, which do not run; probes are norms",
    )
    told(audit("--probes", "norms", "--precision", "0.02"), "robustness, which does not run")
    told(audit("--probes", "norms", "--sources", "a.safetensors,b"), "--sources a.safetensors,b is")


def test_options_of_a_claim_file_for_probes_that_do_not_run(scotoma, tmp_path):
    claim = '[model]\nsource = "m"\n[data]\nsource = "digits"\n[claim]\nthreat = "linf:0.1"\n'
    path = tmp_path / "claim.toml"
    path.write_text(f'{claim}[audit]\nlayer = "fc"\n')
    refused = "audit.layer fc is an option of distance and divergence, which do not run"
    told(scotoma("audit", path, "--probes", "norms"), f"{path}: {refused}")
    path.write_text(f'{claim}[audit]\nlayer = "fc"\nprobes = ["norms"]\n')
    told(scotoma("gate", path), f"{path}: {refused}")


def test_nothing_is_said_to_be_kept_where_nothing_was_written(audit, tmp_path):
    (tmp_path / "afile").write_text("text")
    ended = audit("--out", "afile/run")
    assert ended.code == 2
    assert "what was finished is kept" not in ended.err
