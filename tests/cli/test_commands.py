import json
import subprocess
import sys
import time

import polars as pl
import pytest

from scotoma import __version__
from scotoma.attacks import ATTACKS
from scotoma.demo import MODEL as SHIPPED
from scotoma.models.checkpoint import load_checkpoint
from scotoma.probes import PROBES
from scotoma.transforms import TRANSFORMS


def test_help_is_quick():
    """Half a second is promised; here CPU time, best of three, with room for a busy machine."""
    code = "import os, scotoma.cli\ntry: scotoma.cli.main()\nfinally: print(sum(os.times()[:2]))"
    command = [sys.executable, "-c", code, "--help"]

    def seconds() -> float:
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(run.stdout.splitlines()[-1])

    assert any(seconds() < 1.0 for _ in range(3))


def test_version(scotoma):
    assert scotoma("--version").out == f"scotoma {__version__}\n"


@pytest.mark.parametrize("args", [(), ("--help",), ("-h",), ("audit", "--help"), ("audit", "-h")])
def test_help(scotoma, args):
    ended = scotoma(*args)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("Usage: scotoma")


def test_list(scotoma):
    everything = scotoma("list").out
    for title in ("attacks", "models", "data", "recipes", "probes"):
        assert f"{title}:\n" in everything
    assert scotoma("list", "attacks").out.count("\n") == 1 + len(list(ATTACKS))
    for name in PROBES:
        assert name in scotoma("list", "probes").out


def test_a_precision_without_a_limit_is_forecast_and_audited_on_200(scotoma, tmp_path):
    arguments = ("audit", SHIPPED, "--data", "digits", "--threat", "linf:0.1", "--precision", 0.05)
    arguments += ("--probes", "robustness", "--attack", "fgsm")
    assert "for 200 images" in scotoma(*arguments, "--dry-run").out
    assert scotoma(*arguments, "--out", tmp_path).code == 0
    numbers = json.loads((tmp_path / "findings" / "robustness.json").read_text())["numbers"]
    assert numbers["n"] == 200


def test_training_says_what_it_begins_with_and_replaces_no_model(scotoma, tmp_path, digits_model):
    out = tmp_path / "tuned.safetensors"
    arguments = ("train", "natural", "--data", "digits", "--threat", "linf:0.1", "--out", out)
    started = scotoma(*arguments, "--start", digits_model, "--epochs", 1)
    assert started.code == 0, started.err
    assert started.out.startswith("start: digits-pgd (small-cnn, pgd, linf:0.1, digits, accuracy ")
    before = out.read_bytes()
    again = scotoma(*arguments, "--start", digits_model, "--epochs", 1)
    assert "is this training, finished before; delete it to train again" in again.out
    other = scotoma(*arguments, "--start", digits_model, "--epochs", 2)
    assert (other.code, other.err.count("\n")) == (2, 1)
    assert "not this training (epochs 1, not 2); choose another --out FILE" in other.err
    assert out.read_bytes() == before


def test_train_audit_report(scotoma, tmp_path, monkeypatch):
    """The road that the README tells, with little of everything."""
    monkeypatch.chdir(tmp_path)
    train = (
        "train",
        "natural",
        "--data",
        "digits",
        "--arch",
        "small-cnn",
        "--threat",
        "linf:0.1",
        "--out",
        "new/m.safetensors",
    )
    ended = scotoma(*train, "--epochs", 2, "--batch", 64, "--half")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == "model: new/m.safetensors"
    assert load_checkpoint(tmp_path / "new" / "m.safetensors")[1]["schedule"]["epochs"] == 2

    audit = (
        "audit",
        "new/m.safetensors",
        "--data",
        "digits",
        "--threat",
        "linf:0.1",
        "--out",
        "run",
        "--limit",
        20,
    )
    audit = (*audit, "--attack", "fmn-linf", "--probes", "robustness, distance")
    ended = scotoma(*audit)
    assert (ended.code, ended.err) == (0, "")
    findings = json.loads((tmp_path / "run" / "findings.json").read_text())
    assert [finding["probe"] for finding in findings["findings"]] == ["robustness", "distance"]
    assert (
        findings["provenance"]["command"]
        == "scotoma " + " ".join(map(str, audit[:-1])) + " 'robustness, distance'"
    )

    page = (tmp_path / "run" / "report.html").read_bytes()
    (tmp_path / "new" / "m.safetensors").unlink()
    (tmp_path / "run" / "report.html").unlink()
    assert scotoma("report", "run").code == 0
    assert (tmp_path / "run" / "report.html").read_bytes() == page


@pytest.mark.slow
def test_map(scotoma, tmp_path, monkeypatch, digits_model):
    monkeypatch.chdir(tmp_path)
    options = ("--limit", 20, "--attack", "fmn-linf", "--steps", 5, "--families", "blur, gamma")
    ended = scotoma("map", digits_model, "--data", "digits", "--threat", "linf:0.1", *options)
    assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / "runs" / "map" / "report.html").exists()
    finding = json.loads((tmp_path / "runs" / "map" / "findings.json").read_text())["findings"][0]
    assert finding["probe"] == "map"
    families = [row["family"] for row in finding["tables"]["families"]]
    assert families == ["none", "blur", "gamma", "composed"]
    for name in TRANSFORMS:
        assert name in scotoma("list", "transforms").out
    ended = scotoma(
        "map", digits_model, "--data", "digits", "--threat", "linf:0.1", "--families", "blurr"
    )
    assert (ended.code, ended.err) == (
        2,
        "scotoma: unknown transform 'blurr'; did you mean 'blur'?\n",
    )


def test_attack(scotoma, tmp_path, monkeypatch, digits_model):
    monkeypatch.chdir(tmp_path)
    ended = scotoma(
        "attack", "pgd", digits_model, "--data", "digits", "--threat", "linf:0.1", "--limit", 30
    )
    assert (ended.code, ended.err) == (0, "")
    path = tmp_path / "runs" / "pgd-digits-pgd" / "pgd.parquet"
    assert ended.out.splitlines()[-1] == f"records: {path.relative_to(tmp_path)}"
    frame = pl.read_parquet(path)
    assert len(frame) == 30
    assert frame["linf"].filter(frame["success"]).max() <= 0.1 + 1e-6  # type: ignore[operator]
    started = time.monotonic()
    assert (
        scotoma(
            "attack", "pgd", digits_model, "--data", "digits", "--threat", "linf:0.1", "--limit", 30
        ).out
        == ended.out
    )
    assert time.monotonic() - started < 5


def test_no_command_is_described_in_half_a_sentence(scotoma):
    commands = scotoma("--help").out.partition("Commands:")[2].strip().splitlines()
    assert len(commands) == 18
    assert all(line.rstrip().endswith(".") and "..." not in line for line in commands)
