"""Certified accuracy beside attacks, on models where both are known."""

from __future__ import annotations

import json

import polars as pl
import pytest
import torch
from linear_optimum import ExactSettings, optimum
from torch import nn

from centroids import centroids
from scotoma.auditing import make_claim
from scotoma.execution.run import Run
from scotoma.probes.base import Settings
from scotoma.probes.blindspots.grid import MNIST_SHIFTS
from scotoma.probes.blindspots.transformed import TransformedSet
from scotoma.probes.certificates import probe as certificate
from scotoma.probes.certificates.probe import Certificate, CertifiedSet
from scotoma.threat import Threat
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.stats import paired_difference

THREAT = Threat("linf", 0.02)


@pytest.fixture(scope="module")
def finding(tmp_path_factory, grey):
    claim = make_claim(centroids(grey), grey, THREAT)
    run = Run(claim, tmp_path_factory.mktemp("certificate"))
    return Certificate().finding(claim, run, ExactSettings())


def test_what_is_not_certified_is_broken_where_both_are_exact(finding):
    assert finding.numbers["contradictions"] == 0
    for row in finding.tables["grid"]:
        for size in ("eps", "alpha_eps"):
            # the guards of attack and bound leave out an image or two at the edge
            assert (
                row[f"robust_accuracy_{size}"] - 0.006
                <= row[f"certified_accuracy_{size}"]
                <= row[f"robust_accuracy_{size}"]
            )
            assert 0.1 < row[f"certified_accuracy_{size}"] < 0.9


def test_each_cell_is_what_the_transformed_images_give(finding, grey, linear_grey):
    grid = finding.tables["grid"]
    assert [(row["alpha"], row["beta"]) for row in grid] == list(MNIST_SHIFTS)
    for row in grid:
        images = ScaleShift(row["alpha"], row["beta"])(grey.test.images(torch.arange(500)))
        correct = linear_grey(images).argmax(1) == grey.test.labels
        distance = optimum(linear_grey, images, grey.test.labels)[0]
        for size, column in ((THREAT.eps, "eps"), (row["alpha"] * THREAT.eps, "alpha_eps")):
            expected = (correct & (distance > size)).float().mean().item()
            assert row[f"certified_accuracy_{column}"] == pytest.approx(expected, abs=0.0065)


def test_the_finding_has_what_other_tools_read(finding):
    json.dumps([finding.numbers, finding.tables], allow_nan=False)
    rates = [
        f"{name}_{size}"
        for name in ("certified_accuracy", "robust_accuracy", "success")
        for size in ("eps", "alpha_eps")
    ]
    ends = [
        f"{name}{end}" for name in ("accuracy", "cost", *rates) for end in ("", "_low", "_high")
    ]
    for row in finding.tables["grid"]:
        assert sorted(row) == sorted(
            [
                "label",
                "contrast_shift",
                "alpha",
                "beta",
                "n",
                "attacked",
                "harmless",
                "contradictions",
                *ends,
            ]
        )
    for name in (
        "certified_accuracy",
        "worst_certified_accuracy_eps",
        "worst_certified_accuracy_alpha_eps",
        "lost",
    ):
        low, value, high = (finding.numbers[f"{name}{end}"] for end in ("_low", "", "_high"))
        assert 0 <= low <= value <= high <= 1


def test_the_table_marks_the_shifts_that_are_shown_to_be_harmless(finding, grey, linear_grey):
    base, *others = finding.tables["grid"]
    assert (base["harmless"], base["label"]) == (True, "1, 0")
    images, labels = grey.test.images(torch.arange(len(grey.test))), grey.test.labels
    correct = (linear_grey(images).argmax(1) == labels).numpy()
    for row in others:
        after = linear_grey(ScaleShift(row["alpha"], row["beta"])(images)).argmax(1) == labels
        expected = paired_difference(correct, after.numpy())
        assert row["cost_high"] == pytest.approx(expected.high, rel=1e-5)
        assert row["harmless"] == (expected.high <= 0.01)
        assert row["label"].startswith("(") == (not row["harmless"])
    harmless = sum(row["harmless"] for row in others)
    assert 0 < harmless < len(others)
    assert finding.numbers["harmless"] == harmless
    assert any(f"{harmless} of {len(others)}" in note for note in finding.notes)


def test_a_repeated_audit_reads_its_certificates(tmp_path, grey, linear_grey, monkeypatch):
    claim = make_claim(linear_grey, grey, THREAT)
    findings = []
    for _ in range(2):
        findings.append(
            Certificate().finding(claim, Run(claim, tmp_path / "run", limit=60), ExactSettings())
        )
        monkeypatch.setattr(certificate, "certified", None)
    assert findings[0].tables == findings[1].tables


def test_a_wrong_certificate_is_shouted(tmp_path, grey, linear_grey, monkeypatch):
    monkeypatch.setattr(
        certificate,
        "certified",
        lambda network, images, labels, eps: torch.ones(len(images), dtype=torch.bool),
    )
    claim = make_claim(linear_grey, grey, THREAT)
    finding = Certificate().finding(claim, Run(claim, tmp_path / "run", limit=60), ExactSettings())
    assert finding.verdict == "broken"
    assert finding.headline.startswith("THE CERTIFICATE IS WRONG")
    fell = sum(round(row["success_eps"] * row["attacked"]) for row in finding.tables["grid"])
    assert finding.numbers["contradictions"] == fell > 0


def test_networks_without_a_bound_are_named(tmp_path, digits):
    torch.manual_seed(0)
    pooled = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10)
    )
    claim = make_claim(pooled, digits, THREAT)
    finding = Certificate().finding(claim, Run(claim, tmp_path / "run", limit=5), Settings())
    assert finding.verdict == "not applicable"
    assert "MaxPool2d" in finding.headline


def test_nothing_to_lose(tmp_path, digits):
    torch.manual_seed(0)
    claim = make_claim(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), digits, Threat("linf", 0.9))
    finding = Certificate().finding(
        claim, Run(claim, tmp_path / "run", limit=20), Settings(attack="pgd")
    )
    assert finding.verdict == "not applicable"
    assert "nothing to lose" in finding.headline


def proved(certified: int, n: int = 100) -> CertifiedSet:
    index = list(range(n))
    proofs = pl.DataFrame(
        {
            "index": index,
            "eps": [i < certified for i in index],
            "alpha_eps": [i < certified for i in index],
        }
    )
    images = TransformedSet(None, pl.DataFrame(), THREAT)
    return CertifiedSet(images, proofs)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([90], "holds"),
        ([76], "holds"),
        ([75], "weak"),
        ([36], "weak"),
        ([35], "broken"),
        ([95, 0], "broken"),
        ([], "undecided"),
    ],
)
def test_the_verdict_at_the_edges_of_its_rule(others, expected):
    """90 of 100 have an interval from 82.6%, 75 one up to 82.5%, and 35 one up to 44.7%."""
    assert Certificate._verdict(proved(90), [proved(count) for count in others]) == expected
