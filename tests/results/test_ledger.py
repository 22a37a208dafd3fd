"""The ledger: the smallest perturbation that any attack gave, image by image."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import polars as pl
import pytest

import scotoma as library
from scotoma.execution import records as rec
from scotoma.probes.blindspots.probe import BlindSpots
from scotoma.probes.certificates import probe as certificate
from scotoma.probes.norms.probe import Norms
from scotoma.results.ledger import NORMS, Ledger
from scotoma.threat import Threat
from scotoma.utils.stats import rate


def records(attack: str, sizes: dict[int, float | None], **fields) -> pl.DataFrame:
    """Records of images of class 0 that are fooled at a size; None is a clean error."""
    rows = [
        {
            "index": index,
            "label": 0,
            "prediction": int(size is None),
            "margin": 0.5,
            "adversarial_prediction": 2,
            "success": size is not None and math.isfinite(size),
            **dict.fromkeys(NORMS, size or 0.0),
            "attack": attack,
            "transform": "none",
        }
        | fields
        for index, size in sizes.items()
    ]
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(NORMS, pl.Float32))


def radii(sizes: dict[int, float], norm: str = "linf") -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"transform": "none", "index": index, "norm": norm, "radius": size}
            for index, size in sizes.items()
        ]
    )


A = records("a", {3: 0.2, 1: math.inf, 2: None, 0: 0.1})
B = records("b", {0: 0.3, 1: 0.4, 2: None})
ANOTHER = records("c", {0: 0.01}, transform="blur")


def test_each_image_counts_with_the_smallest_perturbation_of_any_attack():
    for tables in permutations((A, B, ANOTHER)):
        ledger = Ledger.of(tables).on([2, 3, 0, 1])
        rows = ledger.rows()
        assert rows["index"].to_list() == [2, 3, 0, 1]
        assert rows["linf"].to_list() == pytest.approx([0.0, 0.2, 0.1, 0.4])
        assert rows["linf_attack"].to_list() == [None, "a", "a", "b"]
        assert rows["success"].to_list() == [False, True, True, True]
        assert ledger.rows("blur")["linf"].to_list() == pytest.approx([0.01])
    assert Ledger.of([A]).on([1]).rows()["linf"].to_list() == [math.inf]
    assert Ledger.of([]).on([1, 2]).rows().is_empty()


def test_norms_are_told_apart_and_of_equal_attacks_the_first_by_name_counts():
    flat = records("z", {0: 0.1}, l0=5.0)
    ledger = Ledger.of([flat, records("b", {0: 0.1}, l0=3.0), records("y", {0: 0.1}, l0=3.0)])
    row = ledger.rows().row(0, named=True)
    assert (row["linf_attack"], row["l0_attack"], row["l0"]) == ("b", "b", 3.0)


def test_a_randomised_model_is_wrong_where_the_first_attack_saw_it_wrong():
    ledger = Ledger.of([records("b", {0: 0.1, 1: 0.1}), records("a", {0: None, 1: 0.2})])
    rows = ledger.rows().sort("index")
    assert rows["prediction"].to_list() == [1, 0]
    assert rows["linf"].to_list() == pytest.approx([0.0, 0.1])
    assert rows["success"].to_list() == [False, True]


def test_rows_are_read_as_records_are():
    rows = Ledger.of([A, B]).rows()
    assert rate(rec.successes(rows, 0.2, "linf")) == rate(np.array([True, False, True]))
    assert rec.fallen(rows, 0.4, "linf").sum() == 3
    assert len(rec.correct(rows)) == 3


def test_a_success_inside_a_certified_radius_is_an_error():
    sound = Ledger.of([A, B], [radii({0: 0.099, 1: 0.39, 2: 0.5, 3: 0.0})])
    assert sound.errors() == []
    assert sound.rows().sort("index")["linf_certified"].to_list() == pytest.approx(
        [0.099, 0.39, 0.5, 0.0]
    )
    wrong = Ledger.of([A, B], [radii({0: 0.11, 1: 0.41}), radii({3: 0.1}, "l2")])
    assert wrong.contradictions().select("index", "norm", "attack").rows() == [
        (0, "linf", "a"),
        (1, "linf", "b"),
    ]
    (error,) = wrong.errors()
    assert "test image 0 is certified up to L-inf 0.11, but a fools the model at 0.1" in error
    assert "and on 1 more image" in error


FEW: dict[str, Any] = {"attack": "fmn-linf", "limit": 12}
NORMS_PROBE = Norms({"l2": ("deepfool",), "linf": ("min-linf",)}, queries=100)


@pytest.mark.usefixtures("undrawn")
def test_the_order_of_the_probes_does_not_matter(tmp_path, linear):
    probes = ["robustness", BlindSpots(), NORMS_PROBE, "distance"]
    reports = [
        library.audit(
            linear, "digits", "linf:0.05", out=tmp_path / name, probes=probes[::step], **FEW
        )
        for name, step in {"there": 1, "back": -1}.items()
    ]
    first, second = reports
    assert first.ledger.table.equals(second.ledger.table)
    assert len(first.ledger.table.filter(transform="none")) == 12
    for finding in first.findings:
        other = second[finding.probe]
        assert (finding.headline, finding.numbers) == (other.headline, other.numbers)
        assert finding.tables == other.tables


@pytest.mark.usefixtures("undrawn")
def test_a_stopped_audit_reports_what_is_complete_from_one_ledger(tmp_path, linear):
    options: dict[str, Any] = {**FEW, "limit": 60, "probes": ["robustness", NORMS_PROBE]}
    out = tmp_path / "run"
    library.audit(linear, "digits", "linf:0.05", out=out, **options)
    short = library.audit(linear, "digits", "linf:0.05", out=out, budget=30, **options)
    robust = short["robustness"].numbers["robust_accuracy"]
    assert short["norms"].numbers["accuracy_linf"] == robust


def test_a_success_inside_a_certificate_opens_report_and_terminal(
    tmp_path, grey, linear_grey, monkeypatch, capsys
):
    monkeypatch.setattr(
        certificate, "certified", lambda network, images, labels, eps: labels == labels
    )
    report = library.audit(
        linear_grey,
        grey,
        Threat("linf", 0.05),
        out=tmp_path / "run",
        probes=[certificate.Certificate()],
        **FEW,
    )
    (error,) = report.errors
    assert error.startswith("CERTIFICATE AND ATTACK CONTRADICT EACH OTHER: test image ")
    assert report["certificate"].verdict == "broken"
    report.show()
    assert capsys.readouterr().out.startswith(f"error {error}")
    page = report.html.read_text()
    assert page.index("CERTIFICATE AND ATTACK") < page.index("<h1>")
    rows = report.ledger.contradictions()
    assert (rows["size"] <= rows["certified"] + 1e-6).all()
    assert rows["transform"].n_unique() > 1
