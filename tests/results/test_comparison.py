"""`scotoma compare` pairs audits image by image, and refuses what cannot be paired."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_audits import STRONG, made_audit

import scotoma as library
from centroids import centroids
from scotoma.data.dataset import Dataset
from scotoma.results.comparison import findings, notes
from scotoma.results.comparison.audits import read_audits
from scotoma.results.finding import Finding, Gallery
from scotoma.utils.paired import holm, mcnemar, median_difference

INF = math.inf
SHIFT = "ScaleShift(alpha=0.5, beta=0.0)"


def compared(*runs: Path, data: Dataset | None = None) -> dict[str, Finding]:
    """The findings of a comparison, without its page."""
    return {finding.probe: finding for finding in findings(read_audits(runs), data)}


def test_rates_on_the_same_images_have_the_exact_p(tmp_path):
    """In 8 images only the first withstands, in 2 only the second, of 40."""
    first = made_audit(tmp_path / "first", [INF] * 8 + [0.05] * 2 + [INF] * 20 + [0.02] * 10)
    second = made_audit(tmp_path / "second", [0.05] * 8 + [INF] * 2 + [INF] * 20 + [0] * 10)
    by_probe = compared(first, second)
    clean, robust = by_probe["robustness"].tables["differences"]
    assert (clean["difference"], clean["first_only"], clean["second_only"]) == (0.25, 10, 0)
    assert clean["p"] == pytest.approx(2 * 0.5**10, rel=1e-5)
    assert clean["corrected_p"] == pytest.approx(4 * 0.5**10, rel=1e-5)
    assert clean["ahead"] == "first"
    assert (robust["difference"], robust["first_only"], robust["second_only"]) == (0.15, 8, 2)
    assert robust["p"] == 0.109375
    assert (robust["ahead"], by_probe["robustness"].verdict) == ("undecided", "undecided")
    turned = compared(second, first)["robustness"].tables["differences"][1]
    assert turned["difference"] == -robust["difference"]
    assert turned["difference_low"] == -robust["difference_high"]
    rates = {row["audit"]: row for row in by_probe["robustness"].tables["rates"]}
    assert (rates["first"]["robust_accuracy"], rates["second"]["accuracy"]) == (0.7, 0.75)
    assert by_probe["images"].numbers == {"n": 40, "changed": 20}
    ways = {tuple(row.values()) for row in by_probe["images"].tables["sides"]}
    assert ways == {
        ("withstands", "withstands", 20),
        ("fooled", "misclassified", 10),
        ("withstands", "fooled", 8),
        ("fooled", "withstands", 2),
    }


def test_the_command_prints_who_is_ahead(tmp_path, scotoma):
    worse = made_audit(tmp_path / "worse", [0.05] * 30 + [INF] * 10)
    better = made_audit(tmp_path / "better", [0.2] * 30 + [INF] * 10)
    out = tmp_path / "both"
    out.mkdir()
    (out / "comparison.json").write_text("{}")  # an earlier comparison is written over
    ended = scotoma("compare", worse, better, "--out", out)
    assert (ended.code, ended.err) == (0, "")
    assert "better is 75.0 points" in ended.out
    page = (out / "report.html").read_text()
    assert "better is 75.0 points" in page
    assert f"scotoma compare {worse} {better} --out {out}" in page
    content = json.loads((out / "comparison.json").read_text())
    assert (content["n"], content["threat"], content["data"]) == (40, "linf:0.1", "digits")
    table = pl.read_csv(out / "images.csv")
    assert table["better side"].to_list() == ["withstands"] * 40
    assert table["worse linf"][:30].unique().to_list() == [pytest.approx(0.05)]
    assert table["worse attack"].drop_nulls().unique().to_list() == ["strong"]


def test_only_images_that_all_audited_count(tmp_path):
    long = made_audit(tmp_path / "long", [INF] * 30)
    late = made_audit(tmp_path / "late", [0.05] * 20, start=20)
    by_probe = compared(long, late)
    assert by_probe["robustness"].numbers["n"] == 10
    assert [row["difference"] for row in by_probe["robustness"].tables["differences"]] == [0, 1]
    assert (
        "10 images that all audited; audited: long 30, late 20"
        in notes(read_audits([long, late]))[0]
    )
    assert [row["image"] for row in by_probe["images"].tables["images"]] == list(range(20, 30))


def test_equal_audits_are_undecided(tmp_path):
    sizes = [0.05, 0.2, INF, 0]
    pair = [made_audit(tmp_path / name, sizes, model="same") for name in ("a", "b")]
    by_probe = compared(*pair)
    assert by_probe["images"].verdict == "not applicable"
    assert {row["corrected_p"] for row in by_probe["robustness"].tables["differences"]} == {1.0}
    assert by_probe["robustness"].tables["differences"][0]["first"] == "same (a)"


def test_three_audits_are_corrected_together(tmp_path):
    kinds = {"one": [INF] * 20, "two": [0.05] * 7 + [INF] * 13, "three": [0.05] * 20}
    by_probe = compared(*(made_audit(tmp_path / name, sizes) for name, sizes in kinds.items()))
    rows = by_probe["robustness"].tables["differences"]
    assert len(rows) == 6
    assert [row["corrected_p"] for row in rows] == pytest.approx(
        holm([row["p"] for row in rows]), rel=1e-5
    )
    ahead = {(row["first"], row["second"]): row["ahead"] for row in rows[3:]}
    assert ahead == {
        ("one", "two"): "undecided",  # p 0.016, corrected 0.063
        ("one", "three"): "one",
        ("two", "three"): "two",
    }


def test_transforms_count_at_the_scaled_budget_and_where_all_have_them(tmp_path):
    one = {"none": [INF] * 12, SHIFT: [0.07] * 12, "Blur(sigma=1.0)": [INF] * 12}
    two = {"none": [INF] * 12, SHIFT: [0.04] * 12}
    by_probe = compared(made_audit(tmp_path / "one", one), made_audit(tmp_path / "two", two))
    (row,) = by_probe["blindspots"].tables["rates"]
    assert row["transform"] == "scale-shift with alpha 0.5, beta 0"
    assert row["alpha_eps"] == 0.05
    assert (row["robust accuracy of one"], row["robust accuracy of two"]) == (1, 0)
    assert "one is ahead in 1 of 1" in by_probe["blindspots"].headline


def test_other_norms_count_at_the_bounds_of_the_norms_probe(tmp_path):
    norms = Finding("norms", "?", "weak", "a rule", "So.", {"bounds": {"linf": 0.1, "l2": 1.0}})
    one = made_audit(tmp_path / "one", [0.15] * 12, findings=[norms])  # L2 is ten times L-inf
    two = made_audit(tmp_path / "two", [0.05] * 12, findings=[norms])
    finding = compared(one, two)["norms"]
    (row,), (gap,) = finding.tables["differences"], finding.tables["medians"]
    assert (row["difference"], row["ahead"], row["bound"]) == (1, "one", 1.0)
    assert (gap["median_first"], gap["median_second"], gap["ahead"]) == (1.5, 0.5, "one")
    wider = replace(norms, numbers={"bounds": {"l2": 2.0}})
    other = made_audit(tmp_path / "other", [0.05] * 12, findings=[wider])
    assert compared(one, other)["norms"].tables["differences"] == []
    plain = made_audit(tmp_path / "plain", [0.05] * 12)
    assert list(compared(one, plain)) == ["robustness", "images"]


def test_unequal_attacks_are_named(tmp_path):
    adapted = STRONG.replace("Strong", "Adapted")
    one = made_audit(tmp_path / "one", [INF] * 4)
    two = made_audit(tmp_path / "two", [0.05] * 4, attack=adapted)
    assert notes(read_audits([one, two])) == []
    three = made_audit(tmp_path / "three", [0.05] * 4, attack="FGSM()")
    assert "ran different attacks" in notes(read_audits([one, three]))[0]


def test_an_audit_that_tried_less_is_not_ahead(tmp_path):
    """FGSM, which fails on all images, shows nothing beside `strong`, which fools all."""
    weak = made_audit(tmp_path / "weak", [INF] * 20, attack="FGSM()")
    strong = made_audit(tmp_path / "strong", [0.05] * 20)
    finding = compared(weak, strong)["robustness"]
    assert finding.verdict == "undecided"
    assert {row["ahead"] for row in finding.tables["medians"]} == {"undecided"}
    better = made_audit(tmp_path / "better", [INF] * 20)
    worse = made_audit(tmp_path / "worse", [0.05] * 20, attack="FGSM()")
    assert compared(better, worse)["robustness"].verdict == "differs"
    other = made_audit(tmp_path / "other", [INF] * 20, attack="PGD()")
    assert compared(other, worse)["robustness"].verdict == "undecided"


def test_a_model_is_not_ahead_of_itself(tmp_path):
    """Two audits of one model differ by what was tried alone."""
    runs = [
        made_audit(tmp_path / name, [size] * 20, model="same")
        for name, size in (("weak", INF), ("strong", 0.05))
    ]
    finding = compared(*runs)["robustness"]
    assert finding.verdict == "undecided"
    assert finding.tables["medians"][0]["ahead"] == "undecided"
    assert any("audits of one model (sha256" in note for note in notes(read_audits(runs)))


def test_a_model_that_hides_its_gradient_is_never_ahead(tmp_path):
    masking = Finding("masking", "?", "broken", "r", "h", {"masked": True, "circumvented": False})
    hidden = made_audit(tmp_path / "hidden", [INF] * 20, findings=[masking])
    honest = made_audit(tmp_path / "honest", [0.05] * 20)
    for runs in ((hidden, honest), (honest, hidden)):
        finding = compared(*runs)["robustness"]
        assert [row["ahead"] for row in finding.tables["differences"]] == ["undecided"] * 2
        assert finding.tables["medians"][0]["ahead"] == "undecided"
        assert finding.verdict == "undecided"
        assert "not measured" in notes(read_audits(runs))[0]
    broken = made_audit(tmp_path / "broken", [0.05] * 20, findings=[masking])
    better = made_audit(tmp_path / "better", [INF] * 20)
    assert compared(broken, better)["robustness"].tables["differences"][1]["ahead"] == "better"


def test_pictures_are_those_that_the_audits_stored(digits, tmp_path):
    weak, strong = tmp_path / "weak", tmp_path / "strong"
    plain = centroids(digits)
    for folder, scale in ((weak, 0.02), (strong, 1.0)):
        model = centroids(digits)
        weight, mixed = model.get_parameter("1.weight"), plain.get_parameter("1.weight").roll(1, 0)
        weight.data += (1 - scale) * 0.5 * mixed.detach()
        library.audit(
            model, "digits", "linf:0.1", out=folder, probes=["robustness"], attack="fgsm", limit=30
        )
    finding = compared(weak, strong, data=digits)["images"]
    pictures = finding.images["changed"]
    assert pictures.shape[1:] == (3, 1, 8, 8)
    originals, attacked = pictures[:, 0], pictures[:, 1:]
    assert 0.09 < np.abs(attacked - originals[:, None]).max() <= 0.1 + 1e-6
    (gallery,) = finding.figures
    assert isinstance(gallery, Gallery)
    index = int(gallery.captions[0][0].split(",")[0].removeprefix("image "))
    (original,) = digits.test.images([index])
    np.testing.assert_array_equal(originals[0], original)
    with pytest.raises(library.InputError, match="are not the data of these audits"):
        compared(weak, strong, data=replace(digits, sha256="0" * 64))


def test_bad_input_is_a_line(tmp_path, scotoma, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = made_audit(tmp_path / "one", [INF] * 4)
    two = made_audit(tmp_path / "two", [INF] * 4)
    data = made_audit(tmp_path / "data", [INF] * 4, data_sha256="db" * 32)
    threat = made_audit(tmp_path / "threat", [INF] * 4, threat="linf:0.2")
    apart = made_audit(tmp_path / "apart", [INF] * 4, start=4)
    nothing = made_audit(tmp_path / "nothing", {SHIFT: [INF] * 4})
    old, bare, torn = (shutil.copytree(two, tmp_path / name) for name in ("old", "bare", "torn"))
    (old / "findings.json").write_text('{"schema": 0}')
    (bare / "ledger.parquet").unlink()
    (torn / "ledger.parquet").write_bytes(b"PAR1")
    work = tmp_path / "work"
    work.mkdir()
    (work / "thesis.tex").write_text("chapter 1")
    before = sorted(tmp_path.rglob("*"))
    for arguments, says in (
        ([one], "at least two audits"),
        ([one, one], "is given twice"),
        ([one, tmp_path / "two" / ".." / "one"], "is given twice"),
        ([one, work], "findings.json: no such file"),
        ([one, old], "schema 0, this version reads"),
        ([one, bare], "ledger.parquet: no such file; run the audit again"),
        ([one, torn], "ledger.parquet: cannot be read"),
        ([one, data], "different data (digits dadadada, digits dbdbdbdb)"),
        ([one, threat], "different threat (linf:0.1, linf:0.2)"),
        ([one, apart], "no image was audited by all"),
        ([one, nothing], "no attack on the test images"),
        ([one, two, "--out", work], "is not empty and not a comparison; choose another --out"),
        ([one, two, "--data", "digits"], "--data digits: are not the data of these audits"),
        ([], "Missing argument"),
    ):
        ended = scotoma("compare", *arguments, *(() if "--out" in arguments else ("--out", "new")))
        assert (ended.code, says in ended.err, ended.err.count("\n")) == (2, True, 1), ended
    assert sorted(tmp_path.rglob("*")) == before


def test_statistics_of_pairs():
    more = np.arange(30) < 12
    assert mcnemar(more, np.arange(30) < 6) == 2 / 2**6
    assert mcnemar(more, more) == 1
    assert holm([0.04, 0.01, 0.03]) == [0.06, 0.03, 0.06]
    sizes = np.random.default_rng(0).normal(size=500)
    same = median_difference(sizes, sizes + 0.5, seed=1)
    assert same[:3] == pytest.approx((-0.5, -0.5, -0.5))
    loose, tight = (median_difference(sizes, sizes[::-1] + 0.05, 1, of) for of in (10, 1))
    assert loose.low < tight.low < -0.05 < tight.high < loose.high
    unreached = np.full(9, INF)
    assert median_difference(unreached, unreached, 0)[:3] == (0, 0, 0)
    assert median_difference(unreached, np.zeros(9), 0).value == INF
