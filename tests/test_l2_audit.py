"""Audits of L2 claims: every probe measures in L2, and they agree with one another."""

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest

import scotoma
from centroids import centroids
from coarse import coarse
from once import once
from scotoma.probes import PROBES
from scotoma.probes.blindspots.map import BlindSpotMap
from scotoma.probes.certificates.probe import Certificate
from scotoma.probes.inequality.probe import Inequality
from scotoma.probes.masking.probe import Masking
from scotoma.probes.norms.probe import Norms
from scotoma.probes.transfer.probe import Transfer
from scotoma.report import publishing
from scotoma.results.report import read_report
from scotoma.utils.text import norm_name

EPS = 0.4
PROBED = [probe for probe in PROBES if probe not in ("divergence", "generated")]
"""The first knows no norm, and takes the longest; the other has no generator here."""


@pytest.fixture(scope="module")
def report(tmp_path_factory, digits, digits_model):
    """The report of an audit that the session makes once, in a folder of this module's own."""
    other = centroids(digits)
    options = {
        "norms": Norms({"l0": ("vfga",), "l2": ("ddn",), "linf": ("fmn-linf",)}),
        "inequality": Inequality(20, steps=5, draws=1, occlusions=((10, 5),), reference=other),
        "transfer": Transfer([other]),
        "masking": Masking([other]),
    }
    probes = [options.get(probe, probe) for probe in PROBED]
    probes += [
        BlindSpotMap(("scale-shift",), resolution=1, rounds=0, steps=10, composed=0),
        Certificate(),
    ]
    threat = f"l2:{EPS}"

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            coarse(patch)
            patch.setattr(publishing, "draw", read_report)
            scotoma.audit(
                str(digits_model), digits, threat, out=folder, probes=probes, attack="ddn", limit=30
            )

    made = once("audit-in-l2", make)
    return read_report(shutil.copytree(made, tmp_path_factory.mktemp("l2") / "run"))


def test_every_probe_answers(report):
    verdicts = {finding.probe: finding.verdict for finding in report.findings}
    assert list(verdicts) == [*PROBED, "map", "certificate"]
    assert verdicts.pop("certificate") == "not applicable"
    assert (
        report["certificate"].headline
        == "The bound is for L-inf perturbations, but the claim is for L2."
    )
    assert "not applicable" not in verdicts.values()
    assert verdicts["masking"] == "holds"
    assert verdicts["robustness"] == "weak"


def test_probes_agree_on_the_test_set_itself(report):
    robust = report["robustness"].numbers
    assert 0.5 < robust["robust_accuracy"] < robust["clean_accuracy"]
    assert EPS < robust["median_l2"] < 2
    base = report["blindspots"].tables["grid"][0]
    assert base["success_eps"] == base["success_alpha_eps"] == robust["attack_success"]
    assert report["map"].numbers["n"] == robust["n"] / 2, "the map reports on the other half"
    assert (
        report["norms"].numbers["accuracy_l2"]
        == report["transfer"].numbers["white_box_accuracy"]
        == robust["robust_accuracy"]
    )
    assert report["norms"].numbers["median_l2"] == robust["median_l2"]
    assert report["norms"].numbers["bounds"]["l2"] == EPS
    assert [row["claimed"] for row in report["norms"].tables["norms"]] == [False, True, False]
    assert abs(report["distance"].numbers["spearman"]) <= 1
    assert {"distance", "l2"} == set(report["distance"].tables["points"][0])
    assert -1 <= report["inequality"].numbers["spearman_gini_l2"] <= 1


def test_rates_are_those_of_the_records(report):
    frame = report.records.filter(pl.col("attack").str.starts_with("DDN("), transform="none")
    assert len(frame) == report["robustness"].numbers["n"]
    stands = frame["l2"] > EPS + 1e-6
    assert report["robustness"].numbers["robust_accuracy"] == pytest.approx(stands.mean(), abs=1e-5)
    assert report["robustness"].numbers["median_l2"] == pytest.approx(
        frame["l2"].quantile(0.5, "lower"), rel=1e-5
    )


def test_a_smaller_size_after_a_change_breaks_no_more(report):
    families = [row for row in report["map"].tables["families"] if row["success_eps"] is not None]
    assert families
    for row in report["blindspots"].tables["grid"] + families:
        assert 0 <= row["success_alpha_eps"] <= row["success_eps"] <= 1


def test_masking_searches_and_ends_in_l2(report):
    masking = report["masking"]
    checks = {row["check"]: row for row in masking.tables["checks"]}
    assert checks["At eps 8 every image is fooled"]["failures"] == 0
    success = {row["attack"]: row["success"] for row in masking.tables["attacks"]}
    assert 0 < success["random search"] <= success["many restarts"]
    assert any("Random search is Square" in note for note in masking.notes)
    sizes = [row["eps"] for row in masking.tables["eps"]]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 8
    assert masking.tables["eps"][-1]["success"] == 1


def test_no_word_speaks_of_another_norm(report):
    """Except in the norms probe, and where the certificate's bound is said to be in L-inf."""
    for finding in report.findings:
        if finding.probe in ("norms", "certificate"):
            continue
        whole = json.loads((report.folder / "findings" / f"{finding.probe}.json").read_text())
        told = json.dumps(whole, ensure_ascii=False)
        assert not re.search(r"L-inf|linf|L∞", told), finding.probe
    for probe in ("robustness", "masking"):
        assert norm_name("l2") in json.dumps([vars(figure) for figure in report[probe].figures])
    assert "L2" in report["blindspots"].figures[1].captions[0][2]


def test_galleries_show_what_lies_within_eps(report):
    images = report["robustness"].images["examples"]
    sizes = ((images[:, 1] - images[:, 0]) ** 2).sum((1, 2, 3)) ** 0.5
    assert 0 < sizes.min() <= sizes.max() <= EPS + 1e-6


@pytest.mark.usefixtures("undrawn")
def test_the_command_line_takes_l2_claims(scotoma, tmp_path, digits_model):
    out = tmp_path / "run"
    ended = scotoma(
        "audit",
        digits_model,
        "--data",
        "digits",
        "--threat",
        "l2:0.4",
        "--probes",
        "robustness",
        "--limit",
        10,
        "--out",
        out,
    )
    assert (ended.code, ended.err) == (0, "")
    numbers = json.loads((out / "findings.json").read_text())["findings"][0]["numbers"]
    assert "median_l2" in numbers
    assert numbers["robust_accuracy"] < numbers["clean_accuracy"]
