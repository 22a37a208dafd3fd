"""Patching: from an audit of digits to a model without that blind spot, and their comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from scotoma.auditing import audit
from scotoma.models.loading import load_model
from scotoma.probes.blindspots.definition import LIMITS
from scotoma.probes.blindspots.map import BlindSpotMap
from scotoma.probes.blindspots.patch import patch
from scotoma.report import publishing
from scotoma.report.publishing import draw
from scotoma.results.report import read_report
from scotoma.training.loop import Schedule
from scotoma.utils.errors import InputError

SEARCH = BlindSpotMap(("scale-shift", "gamma"), resolution=1, rounds=0, steps=5, composed=4)
SHORT = Schedule(epochs=2, batch=64, peak=3e-3)


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits, digits_model) -> Path:
    """An audit of the digits model with the attack that is cheapest."""
    folder = tmp_path_factory.mktemp("audit")
    options: dict = {"probes": ["blindspots"], "attack": "ifgsm", "limit": 140}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "draw", read_report)
        audit(str(digits_model), digits, "linf:0.1", out=folder, **options)
    return folder


def test_patching_closes_the_blind_spot_and_compares(
    tmp_path, run, digits, digits_model, monkeypatch
):
    # 500 images hardly show anything to be harmless
    monkeypatch.setitem(vars(LIMITS), "harmless", 0.05)
    monkeypatch.setitem(vars(LIMITS), "fall", 0.0)
    model = load_model(str(digits_model))
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    report = patch(model, digits, run, tmp_path, schedule=SHORT, search=SEARCH, command="a command")
    assert all(
        torch.equal(value, model.module.state_dict()[name]) for name, value in before.items()
    )
    finding = report["patch"]
    rows = finding.tables["changes"]
    assert rows[0]["family"] == "none"
    assert {row["family"] for row in rows} - {"composed"} == {"none", "scale-shift", "gamma"}
    trained = [row for row in rows if row["trained_on"]]
    assert trained
    assert all(row["family"] != "gamma" and row["blind_before"] for row in trained)
    assert sum(row["success_after"] for row in trained) < 0.9 * sum(
        row["success_before"] for row in trained
    )
    assert finding.numbers["base_success_before"] == rows[0]["success_before"]
    assert finding.verdict == (
        "broken"
        if any(row["blind_after"] for row in trained)
        else "weak"
        if any(row["blind_after"] for row in rows)
        else "holds"
    )
    assert report["map"].tables["families"]
    compared = {row["transform"]: row for row in report["blindspots"].tables["rates"]}
    named = {row["label"].rstrip(" *").strip("()") for row in trained}
    spot = next(label for label in named if label in compared)
    assert compared[spot]["robust accuracy of digits-pgd-patched"] > 0
    assert report["robustness"].tables["differences"]
    assert report.claim["model"] == "digits-pgd-patched"
    patched = load_model(str(tmp_path / "digits-pgd-patched.safetensors"))
    assert patched.card["recipe"] == "Patched"
    assert patched.card["start"] == model.sha256
    assert any("ScaleShift" in spot for spot in patched.card["options"]["spots"])
    page = (tmp_path / "report.html").read_text()
    assert "a command" in page
    assert "patched" in page

    monkeypatch.setattr(publishing, "draw", read_report)
    written = (tmp_path / "findings.json").read_bytes()
    again = patch(model, digits, run, tmp_path, schedule=SHORT, search=SEARCH, command="a command")
    for report_of in (json.loads(written), json.loads((tmp_path / "findings.json").read_text())):
        assert report_of["findings"][0]["tables"] == again["patch"].tables
    assert draw(tmp_path)["patch"].numbers == finding.numbers


def test_a_folder_without_an_audit_is_refused(tmp_path, digits, digits_model):
    (tmp_path / "findings.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="not the findings of an audit"):
        patch(load_model(str(digits_model)), digits, tmp_path, tmp_path / "out", schedule=SHORT)
    with pytest.raises(InputError, match=r"findings\.json"):
        patch(
            load_model(str(digits_model)),
            digits,
            tmp_path / "none",
            tmp_path / "out",
            schedule=SHORT,
        )


def test_another_models_audit_is_refused(tmp_path, run, digits, linear):
    with pytest.raises(InputError, match="model"):
        patch(load_model(linear), digits, run, tmp_path, schedule=SHORT, search=SEARCH)
    assert not list(tmp_path.glob("*.safetensors"))
