"""Rates of the whole test set: strata, further images, and who reads them."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from torch import nn

import scotoma
from centroids import centroids
from scotoma.claim import Stated
from scotoma.claims.rules import apply, parse
from scotoma.execution import records as rec
from scotoma.probes.blindspots import probe as blindspots
from scotoma.probes.blindspots.grid import MNIST_SHIFTS
from scotoma.probes.blindspots.probe import BlindSpots
from scotoma.probes.norms.probe import Norms
from scotoma.probes.robustness.probe import Robustness
from scotoma.probes.scored import Scored
from scotoma.probes.transfer.probe import Transfer
from scotoma.results.comparison.audits import read_audit
from scotoma.results.exports import model_index, robustbench
from scotoma.results.exports.measured import quantities
from scotoma.results.exports.summary import Summary
from scotoma.results.verify import verify
from scotoma.utils.errors import InputError

THREAT, EPS, LIMIT = "linf:0.05", 0.05, 80


@pytest.fixture(scope="module")
def model(digits):
    return centroids(digits)


@pytest.fixture(scope="module")
def everything(model, digits):
    """Success of the attack on all 500 test images."""
    report = scotoma.audit(model, digits, THREAT, probes=["robustness"], attack="pgd")
    return report["robustness"].numbers


def ask(model, digits, out, **options):
    stated = options.pop("stated", None)
    probe = Robustness(**options)
    return scotoma.audit(
        model, digits, THREAT, out=out, probes=[probe], attack="pgd", limit=LIMIT, stated=stated
    )


def test_strata_alone_cover_the_truth_and_narrow_the_interval(model, digits, everything, tmp_path):
    numbers = ask(model, digits, tmp_path)["robustness"].numbers
    truth = everything["robust_accuracy"]
    low, high = (numbers[f"test_set_robust_accuracy_{end}"] for end in ("low", "high"))
    assert low <= truth <= high
    assert high - low < numbers["robust_accuracy_high"] - numbers["robust_accuracy_low"]
    assert numbers["test_set_images"] == 500
    assert numbers["n"] == LIMIT
    assert "test_set_images" not in everything, "nothing to estimate where all were audited"


def test_more_images_are_attacked_until_the_precision_is_reached(
    model, digits, everything, tmp_path
):
    report = ask(model, digits, tmp_path, precision=0.03)
    finding, numbers = report["robustness"], report["robustness"].numbers
    low, high = (numbers[f"test_set_robust_accuracy_{end}"] for end in ("low", "high"))
    assert low <= everything["robust_accuracy"] <= high
    assert (high - low) / 2 < 0.04
    assert LIMIT * numbers["clean_accuracy"] < numbers["test_set_attacked"] < 400
    assert f"from {numbers['test_set_attacked']} attacked" in finding.headline
    rows = finding.tables["strata"]
    assert sum(row["attacked"] for row in rows) == numbers["test_set_attacked"]
    assert sum(row["images"] for row in rows) == round(500 * numbers["test_set_clean_accuracy"])
    shares = [row["attacked"] / row["images"] for row in rows]
    assert max(shares) > 1.5 * min(shares), "images are drawn where it matters"
    # the ledger is the uniform sample, the records have all
    assert len(pl.read_parquet(tmp_path / "ledger.parquet")) == LIMIT
    assert len(report.records) > LIMIT
    options: dict = {"probes": ["robustness"], "attack": "pgd", "limit": LIMIT, "precision": 0.03}
    second = scotoma.audit(model, digits, THREAT, out=tmp_path, **options)
    assert second["robustness"].numbers == numbers
    assert "precision=0.03" in second.provenance["command"]


@pytest.mark.parametrize("option_of", ["audit", "probe"])
def test_a_precision_without_a_limit_audits_200(model, digits, tmp_path, option_of):
    options: dict = {"attack": "fgsm", "out": tmp_path}
    if option_of == "audit":
        options |= {"probes": "robustness", "precision": 0.03}
    else:
        options |= {"probes": Robustness(precision=0.03)}
    report = scotoma.audit(model, digits, THREAT, **options)
    assert report["robustness"].numbers["n"] == 200
    assert report["robustness"].numbers["test_set_attacked"] > 100
    assert "limit" not in report.provenance["command"], "the same call, word for word"


def test_the_rate_of_a_stratum_is_that_of_its_attacked_images(model, digits, tmp_path):
    report = ask(model, digits, tmp_path, precision=0.03)
    row = report["robustness"].tables["strata"][0]
    fooled = rec.fallen(report.records, EPS, "linf")
    assert 0 < row["success"] * row["attacked"] <= fooled.sum()
    weights = np.array([each["images"] for each in report["robustness"].tables["strata"]])
    rates = np.array([each["success"] for each in report["robustness"].tables["strata"]])
    mean = float((weights * rates).sum() / weights.sum())
    assert mean == pytest.approx(report["robustness"].numbers["test_set_attack_success"], abs=1e-5)


def test_uniform_sampling_has_the_audited_images_alone(model, digits, tmp_path):
    finding = ask(model, digits, tmp_path, sampling="uniform")["robustness"]
    assert "test_set_images" not in finding.numbers
    assert finding.headline.startswith("Accuracy on the audited images")


def test_a_gate_and_a_stated_number_read_the_whole_test_set(model, digits, everything, tmp_path):
    stated = Stated(robust=round(everything["robust_accuracy"], 3))
    report = ask(model, digits, tmp_path, precision=0.02, stated=stated)
    finding = report["robustness"]
    assert finding.verdict in ("holds", "undecided")
    assert finding.tables["stated"][0]["n"] == finding.numbers["test_set_attacked"]
    decided = apply(parse("robust_accuracy >= 0.01"), report)
    assert f"n = {finding.numbers['test_set_attacked']}" in decided.reason


def test_one_audit_has_one_robust_accuracy(model, digits, tmp_path):
    """Gate, exports and verify give the number of the headline, with its images."""
    stated = Stated(clean=0.5)
    report = ask(model, digits, tmp_path, precision=0.03, stated=stated)
    numbers = report["robustness"].numbers
    value, attacked = numbers["test_set_robust_accuracy"], numbers["test_set_attacked"]
    assert round(value, 3) != round(numbers["robust_accuracy"], 3), "else nothing is shown"
    assert f"{value:.1%}" in report["robustness"].headline
    audit = read_audit(tmp_path)
    robust = quantities(audit)[1]
    assert (robust.value.value, robust.value.n, robust.of) == (value, attacked, 500)
    entry = robustbench.entry(audit)
    assert entry["external"] == f"{100 * value:.2f}"
    assert f"all 500 test images, estimated from {attacked} attacked" in entry["footnote"]
    assert f"value: {value}" in model_index.render(audit)
    page = Summary.of(audit)
    assert page.results[1][2::2] == (f"{value:.1%}", f"{attacked} of 500")
    assert [row[0] for row in page.decisions] == ["clean accuracy of 50.0%", "robustness"]
    whole = next(each for each in verify(tmp_path) if each.name == "rates of the whole test set")
    assert whole.agrees
    assert f"robust accuracy {value:.1%} of all 500 test images" in whole.detail
    changed = json.loads((tmp_path / "findings.json").read_text())
    changed["findings"][0]["numbers"]["test_set_robust_accuracy"] = value + 0.01
    (tmp_path / "findings.json").write_text(json.dumps(changed))
    whole = next(each for each in verify(tmp_path) if each.name == "rates of the whole test set")
    assert not whole.agrees


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"precision": 0.7}, "precision=0.7"),
        ({"precision": 0.02, "sampling": "uniform"}, "choose a limit"),
        ({"sampling": "adaptive"}, "want stratified or uniform"),
    ],
)
def test_bad_options_are_one_line(options, says):
    with pytest.raises(InputError, match=says):
        Robustness(**options)


@pytest.mark.slow
def test_cells_norms_and_transfer_have_rates_of_the_whole_test_set(
    model, digits, tmp_path, monkeypatch
):
    monkeypatch.setattr(blindspots, "contrast_shifts", lambda *data: MNIST_SHIFTS[:3])
    few = {"l2": ("ddn",), "linf": ("fmn-linf",)}
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    probes = [BlindSpots(), Norms(few, bounds=["l2:0.3"]), Transfer(sources=[other])]
    ask = {"data": digits, "threat": THREAT, "probes": probes, "attack": "pgd"}
    every = scotoma.audit(model, **ask)
    some = scotoma.audit(model, **ask, limit=2 * LIMIT, out=tmp_path)
    tables = ("blindspots", "grid", "success_alpha_eps"), ("norms", "norms", "success")
    for probe, table, rate in tables:
        rows = some[probe].tables[table]
        for row, truth in zip(rows, every[probe].tables[table], strict=True):
            assert f"test_set_{rate}" not in truth, "nothing to estimate where all were audited"
            low, high = row[f"test_set_{rate}_low"], row[f"test_set_{rate}_high"]
            assert low <= truth[rate] <= high
        width = sum(row[f"test_set_{rate}_high"] - row[f"test_set_{rate}_low"] for row in rows)
        assert width < 0.9 * sum(row[f"{rate}_high"] - row[f"{rate}_low"] for row in rows)
    numbers, truth = some["transfer"].numbers, every["transfer"].numbers["black_box_success"]
    low, high = (numbers[f"test_set_black_box_success_{end}"] for end in ("low", "high"))
    assert low <= truth <= high
    for probe in ("blindspots", "norms", "transfer"):
        assert any("strata by their margin" in note for note in some[probe].notes)


def test_outcomes_are_weighed_by_strata_among_the_images_that_count():
    """Of 100 images the 30 of least margin fall; 7 of those and 14 of the others were attacked."""
    score = np.arange(100.0)
    columns = {"index": np.arange(100), "label": 0, "prediction": 0, "score": score}
    scored = Scored(pl.DataFrame(columns), stepped=True)
    index = np.concatenate([np.arange(0, 30, 4)[:7], np.arange(30, 100, 5)])
    outcomes = scored.outcomes(index, index < 30)
    assert outcomes.success().value == pytest.approx(0.3, abs=0.06)
    assert outcomes.success().n == 21
    assert (index < 30).mean() > 0.32, "which the share of the attacked is not"
    fewer = scored.outcomes(index, index < 30, correct=np.arange(30))
    assert fewer.success().value == 1.0
    assert fewer.success().n == 7
    assert np.isnan(scored.outcomes(index[:0], index[:0] < 30).success().value)
