"""`scotoma certify`: one bound for networks with ReLUs, another for smooth ones."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize(
    ("activation", "probe"),
    [("ReLU", "certificate"), ("ELU", "distributional")],
)
def test_certify_chooses_by_the_network(scotoma, tmp_path, monkeypatch, activation, probe):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\ndef build():\n    torch.manual_seed(0)\n"
        f"    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.{activation}(), "
        f"nn.Linear(8, 10))\n"
    )
    arguments = (
        "certify",
        "net.py:build",
        "--data",
        "digits",
        "--threat",
        "linf:0.001",
        "--limit",
        20,
        "--out",
        "run",
    )
    ended = scotoma(*arguments, "--attack", "pgd", "--force")  # its weights are random
    assert (ended.code, ended.err) == (0, "")
    (finding,) = json.loads((tmp_path / "run" / "findings.json").read_text())["findings"]
    assert finding["probe"] == probe
    assert finding["numbers"]["contradictions"] == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert finding["headline"].split(";")[0].split(" (")[0] in page
