"""`--sources`, and attacks in other norms."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from scotoma.models.checkpoint import load_checkpoint
from scotoma.models.loading import load_model
from scotoma.threat import Threat
from scotoma.training.loop import Schedule, train

COMMON = ("--data", "digits", "--threat", "linf:0.1", "--limit", 20)


@pytest.fixture
def other(tmp_path, digits) -> Path:
    """A network that was trained for a moment."""
    path = tmp_path / "other.safetensors"
    train("natural", digits, "small-cnn", Threat("linf", 0.1), path, schedule=Schedule(1, 256))
    return path


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def told(ended, says: str) -> None:
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("scotoma: ")
    assert ended.err.count("\n") == 1
    assert says in ended.err


def test_audit(scotoma, here, digits_model, other):
    args = (
        "audit",
        digits_model,
        *COMMON,
        "--out",
        "run",
        "--attack",
        "fmn-linf",
        "--probes",
        "transfer",
        "--sources",
        other,
    )
    told(scotoma(*args[:-1], digits_model), "is the audited model itself")
    ended = scotoma(*args)
    assert (ended.code, ended.err) == (0, "")
    audit = json.loads((here / "run" / "findings.json").read_text())
    (finding,) = audit["findings"]
    assert {row["source"] for row in finding["tables"]["matrix"]} == {"digits-pgd", "other"}
    assert [row["source"] for row in finding["tables"]["sources"]] == ["other"]
    sha256 = load_model(str(other)).sha256
    (key,), (source,) = audit["provenance"]["sources"], audit["provenance"]["sources"].values()
    assert key == f"other {sha256[:8]}"
    assert source["sha256"] == sha256
    assert source["schedule"] == load_checkpoint(other)[1]["schedule"]
    assert audit["provenance"]["command"] == "scotoma " + " ".join(map(str, args))
    assert sha256 in (here / "run" / "report.html").read_text()


def test_attack(scotoma, here, digits_model, other):
    ended = scotoma(
        "attack", "transfer", digits_model, *COMMON, "--sources", f"{other},{digits_model}"
    )
    assert (ended.code, ended.err) == (0, "")
    assert "0 backward on the attacked model; those on the sources are not counted" in ended.out
    frame = pl.read_parquet(here / "runs" / "transfer-digits-pgd" / "transfer.parquet")
    (name,) = frame["attack"].unique()
    names = ", ".join(
        f"{path.stem} {load_model(str(path)).sha256[:8]}" for path in (other, digits_model)
    )
    assert name == f"Transfer(threat=Threat(norm='linf', eps=0.1), sources=({names}), steps=20)"
    fewer = scotoma("attack", "transfer", digits_model, *COMMON, "--sources", other)
    assert fewer.code == 0
    assert fewer.out != ended.out, "other sources are another attack"


def test_bad_sources(scotoma, here, digits_model, other):
    (here / "odd.py").write_text(
        "from torch import nn\ndef build(): return nn.Sequential(nn.Flatten(), nn.Linear(9, 10))\n"
    )
    for sources, says in (
        ("missing.safetensors", "missing.safetensors: no such file"),
        (f"{other},missing.safetensors", "missing.safetensors: no such file"),
        (f"{other},", "is a folder"),
        ("odd.py:build", "model odd.py:build cannot take images of 1x8x8"),
    ):
        told(scotoma("audit", digits_model, *COMMON, "--out", "run", "--sources", sources), says)
        told(scotoma("attack", "transfer", digits_model, *COMMON, "--sources", sources), says)
    told(scotoma("attack", "transfer", digits_model, *COMMON), "give --sources MODEL,MODEL")
    told(
        scotoma("audit", digits_model, *COMMON, "--attack", "transfer"),
        "give --sources MODEL,MODEL",
    )
    told(
        scotoma("attack", "fgsm", digits_model, *COMMON, "--sources", other),
        "attack fgsm takes no --sources",
    )
    assert [path.name for path in here.iterdir() if path.name != "__pycache__"] == ["odd.py"]


def test_other_norms(scotoma, here, digits_model):
    def attack(name: str, threat: str):
        return scotoma(
            "attack", name, digits_model, "--data", "digits", "--limit", 60, "--threat", threat
        )

    ended = attack("fgsm", "l2:1.5")
    assert (ended.code, ended.err) == (0, "")
    frame = pl.read_parquet(here / "runs" / "fgsm-digits-pgd" / "fgsm.parquet")
    fell = frame.filter("success")
    assert fell["l2"].max() <= 1.5 * (1 + 1e-6)  # type: ignore[operator]
    right = frame.filter(pl.col("prediction") == pl.col("label"))
    assert f"attack success at l2:1.5: {len(fell) / len(right):.1%}" in ended.out
    assert 0 < len(fell) < len(right)
    assert "median smallest L2 perturbation" in ended.out
    told(
        attack("min-linf", "l2:1.5"),
        "attack min-linf is for linf, not for l2; attacks for l2: fgsm",
    )
    told(attack("fgsm", "l1:10"), "attack fgsm is for linf and l2, not for l1")
    told(
        scotoma("audit", digits_model, "--data", "digits", "--threat", "l1:5", "--out", "run"),
        "audits support L-inf and L2; attack fmn-l1 supports L1",
    )
    assert not (here / "run").exists()
    assert [path.name for path in (here / "runs").iterdir()] == ["fgsm-digits-pgd"]
