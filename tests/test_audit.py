import html
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import nn

import scotoma
from centroids import centroids
from coarse import coarse
from once import once
from scotoma.data.dataset import Dataset
from scotoma.probes import PROBES
from scotoma.probes.base import Probe
from scotoma.probes.distance.probe import Distance
from scotoma.probes.divergence.probe import Divergence
from scotoma.probes.inequality.probe import Inequality
from scotoma.probes.masking.probe import Masking
from scotoma.probes.norms.probe import Norms
from scotoma.probes.transfer.probe import Transfer
from scotoma.report.publishing import draw
from scotoma.results.report import read_report
from scotoma.utils.errors import InputError

PROBED = ["robustness", "blindspots", "distance", "divergence", "norms", "transfer"]
INEQUALITY = Inequality(images=20, steps=5, draws=1, occlusions=((10, 5),))
QUICK: dict[str, Probe] = {
    "norms": Norms(
        {"l0": ("vfga", "pointwise"), "l2": ("deepfool", "contrast"), "linf": ("fmn-linf",)}
    ),
    "inequality": INEQUALITY,
    "divergence": Divergence(points=250),
}
LIMIT = 30
ATTACKING = ["robustness", "blindspots", "distance"]
"""Probes that look at how the model answers, and are quick on a few images."""


@pytest.fixture(scope="module")
def report(tmp_path_factory, digits, digits_model):
    """The report of an audit that the session makes once, in a folder of this module's own."""
    other = centroids(digits)
    quick: dict[str, Probe] = {
        **QUICK,
        "inequality": replace(INEQUALITY, reference=other),
        "transfer": Transfer([other]),
        "masking": Masking([other]),
    }

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            coarse(patch)
            scotoma.audit(
                str(digits_model),
                "digits",
                "linf:0.1",
                out=folder,
                probes=[quick.get(probe, probe) for probe in PROBES],
                attack="fmn-linf",
                limit=LIMIT,
            )

    out = tmp_path_factory.mktemp("audit") / "run"
    return read_report(shutil.copytree(once("audit-of-digits", make), out))


def entry(found: dict[str, Any], probe: str) -> dict[str, Any]:
    return next(finding for finding in found["findings"] if finding["probe"] == probe)


@pytest.fixture(scope="module")
def found(report):
    return json.loads(
        (report.folder / "findings.json").read_text(),
        parse_constant=lambda text: pytest.fail(f"{text} in JSON"),
    )


def test_findings_have_the_schema_that_other_tools_read(found):
    assert list(found) == ["schema", "claim", "findings", "provenance"]
    assert found["schema"] == 1
    assert found["claim"] == {
        "model": "digits-pgd",
        "data": "digits",
        "threat": {"norm": "linf", "eps": 0.1},
        "n": LIMIT,
    }
    assert [finding["probe"] for finding in found["findings"]] == list(PROBES)
    for finding in found["findings"]:
        assert list(finding) == ["probe", "verdict", "rule", "headline", "numbers", "tables"]
        assert finding["verdict"] in ("holds", "weak", "broken", "undecided", "not applicable")
        assert finding["rule"]
        assert finding["headline"].endswith(".")


def test_the_numbers_that_the_schema_promises(found):
    robustness, blindspots, distance, divergence, norms, transfer = (
        entry(found, probe) for probe in PROBED
    )
    assert {"clean_accuracy", "robust_accuracy", "median_linf"} <= robustness["numbers"].keys()
    assert robustness["tables"]["curve"]
    assert {"spearman", "spearman_low", "spearman_high"} <= distance["numbers"].keys()
    assert distance["tables"]["bins"]
    assert {"kl", "kl_null", "knn_kl", "auc"} <= divergence["numbers"].keys()
    assert len(divergence["tables"]["classes"]) == 10
    assert {
        f"{what}_{norm}" for what in ("median", "accuracy") for norm in ("l0", "l2", "linf")
    } <= norms["numbers"].keys()
    assert {"norm", "attack", "median", "accuracy", "found_minimum"} <= norms["tables"]["attacks"][
        0
    ].keys()
    assert {"white_box_accuracy", "black_box_accuracy", "transfer_only"} <= transfer[
        "numbers"
    ].keys()
    assert {"target", "source", "attack", "success", "n", "held_out"} <= transfer["tables"][
        "matrix"
    ][0].keys()
    for row in blindspots["tables"]["grid"]:
        assert {"alpha", "beta", "n", "accuracy", "success_eps", "success_alpha_eps"} <= row.keys()
        assert row["n"] == 500
        assert row["attacked"] <= LIMIT
        assert 0 <= row["success_alpha_eps"] <= row["success_eps"] <= 1
    assert len(blindspots["tables"]["grid"]) == 7


def smallest(records: pl.DataFrame, norm: str) -> pl.DataFrame:
    """The smallest perturbation of each image over all attacks, from the records alone."""
    clean = records.group_by("index").agg(
        pl.col("prediction").first() == pl.col("label").first(), pl.col("label").first()
    )
    found = records.filter("success").group_by("index").agg(pl.col(norm).min())
    joined = clean.join(found, on="index", how="left").sort("index")
    size = pl.when("prediction").then(pl.col(norm).fill_null(math.inf)).otherwise(0.0)
    return joined.select("index", "label", correct="prediction", size=size)


def test_every_finding_agrees_with_the_union_of_the_records(report, found):
    records = report.records.filter(transform="none")
    assert records["attack"].n_unique() > 20
    images = smallest(records, "linf")
    robust = (images["size"] > 0.1 + 1e-6).mean()
    success = (images.filter("correct")["size"] <= 0.1 + 1e-6).mean()
    robustness, blindspots, distance, _, norms, transfer = (entry(found, probe) for probe in PROBED)
    numbers, masking = robustness["numbers"], entry(found, "masking")["numbers"]
    assert numbers["robust_accuracy"] == pytest.approx(robust, abs=1e-5)
    assert numbers["attack_success"] == pytest.approx(success, abs=1e-5)
    assert numbers["audit_attack_success"] <= numbers["attack_success"]
    base = blindspots["tables"]["grid"][0]
    assert (base["alpha"], base["beta"]) == (1, 0)
    assert base["attacked"] == round(numbers["clean_accuracy"] * LIMIT)
    assert base["success_eps"] == base["success_alpha_eps"] == numbers["attack_success"]
    bins = distance["tables"]["bins"]
    fell = sum(row["n"] * (row["rate"] or 0) for row in bins)
    assert fell / sum(row["n"] for row in bins) == pytest.approx(success, abs=1e-5)
    assert norms["numbers"]["accuracy_linf"] == numbers["robust_accuracy"]
    assert norms["numbers"]["median_linf"] == numbers["median_linf"]
    for norm, bound in norms["numbers"]["bounds"].items():
        left = (smallest(records, norm)["size"] > bound * (1 + 1e-6)).mean()
        assert norms["numbers"][f"accuracy_{norm}"] == pytest.approx(left, abs=1e-5)
    assert transfer["numbers"]["robust_accuracy"] == numbers["robust_accuracy"]
    assert transfer["numbers"]["white_box_success"] == numbers["audit_attack_success"]
    assert masking["attack_success"] == numbers["attack_success"]
    attacks = robustness["tables"]["attacks"]
    assert sum(row["smallest_perturbation_of"] for row in attacks) == (
        images.filter("correct", pl.col("size").is_finite()).height
    )
    assert not any("(" in row["attack"] and "=" in row["attack"] for row in attacks)
    shares = [row["share_of_the_fooled_within_eps"] for row in attacks]
    assert sum(shares) == pytest.approx(1, abs=1e-4)


def test_each_contrast_shift_counts_all_records_on_it(report, found):
    for row in entry(found, "blindspots")["tables"]["grid"][1:]:
        on_it = f"ScaleShift(alpha={row['alpha']}, beta={row['beta']})"
        images = smallest(report.records.filter(transform=on_it), "linf").filter("correct")
        fooled = int((images["size"] <= 0.1 + 1e-6).sum())
        rejected = range(round(row["rejected"] * LIMIT) + 1)  # images that do not count
        assert any(
            row["success_eps"] == pytest.approx((fooled - among) / (len(images) - left), abs=1e-5)
            for left in rejected
            for among in rejected
            if among <= left
        )


def test_the_ledger_joins_the_records(report):
    rows = report.ledger.rows().sort("index")
    assert len(rows) == LIMIT
    for norm in ("l0", "l1", "l2", "linf"):
        joined = smallest(report.records.filter(transform="none"), norm)
        assert rows["index"].equals(joined["index"])
        assert rows[norm].to_list() == joined["size"].to_list()
        pair = {"attack": pl.col(f"{norm}_attack"), "size": pl.col(norm)}
        for index, attack, size in rows.filter("success").select("index", **pair).iter_rows():
            by = report.records.filter(index=index, attack=attack, transform="none")
            assert by[norm].to_list() == [size]


def test_the_records_are_a_frame(report):
    frame = report.records
    assert isinstance(frame, pl.DataFrame)
    assert (
        frame.filter(pl.col("attack").str.starts_with("FMN("))
        .select("attack", "transform")
        .unique()
        .height
        == 7
    )
    restarts = pl.col("attack").str.contains("restarts=5")  # on the images that withstood one start
    whole = frame.filter(~restarts)
    assert len(whole) == LIMIT * whole.select("attack", "transform").unique().height
    assert 0 <= len(frame) - len(whole) < LIMIT
    expected = {"index", "label", "prediction", "margin", "adversarial_prediction", "success"}
    assert expected | {"l0", "l1", "l2", "linf", "forwards", "backwards"} <= set(frame.columns)
    assert report.provenance["passes"]["forwards"] == frame["forwards"].sum()


@pytest.mark.slow
def test_the_report_is_drawn_again_to_the_byte_without_the_model(report):
    files = [report.html, *sorted((report.folder / "figures").iterdir())]
    before = [file.read_bytes() for file in files]
    again = draw(report.folder)
    assert [file.read_bytes() for file in files] == before
    assert [finding.headline for finding in again.findings] == [
        finding.headline for finding in report.findings
    ]
    assert again["distance"].tables == report["distance"].tables


def test_show_prints_verdicts_and_the_path(report, capsys):
    report.show()
    out = capsys.readouterr().out
    assert str(report.html) in out.replace("\n", "")
    assert report.summary in out
    assert html.escape(report.summary, quote=False) in report.html.read_text().replace("&#39;", "'")
    for finding in report.findings:
        assert finding.probe in out
    with pytest.raises(KeyError):
        report["map"]


@pytest.mark.usefixtures("undrawn")
def test_a_report_of_two_audits_is_refused(tmp_path, linear):
    out = tmp_path / "run"
    held = scotoma.audit(
        linear, "digits", "linf:0.1", out=out, probes=["robustness"], attack="fmn-linf", limit=20
    )
    path = out / "findings" / "robustness.json"
    path.write_text(path.read_text().replace(held["robustness"].headline, "All is well."))
    with pytest.raises(InputError, match="the robustness probe was run again"):
        draw(out)
    (out / "findings" / "robustness.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="cannot be read"):
        draw(out)


def test_one_probe_with_two_settings_is_refused(linear):
    with pytest.raises(InputError, match="norms is given twice"):
        scotoma.audit(linear, "digits", "linf:0.1", probes=["norms", Norms(queries=7)])


@pytest.mark.usefixtures("undrawn")
def test_a_model_no_better_than_a_constant_one_is_noted(linear):
    images, labels = torch.rand(40, 1, 8, 8), torch.arange(40) % 10
    constant = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        constant[1].weight.zero_()  # type: ignore[operator]
    options: dict = {"probes": ["robustness"], "attack": "fgsm"}
    report = scotoma.audit(constant, (images, labels), "linf:0.1", **options, force=True)
    (note,) = [each for each in report.provenance["notes"] if "same label" in each]
    assert note.startswith("The model classifies 4 of 40 images correctly, no more than")
    report = scotoma.audit(linear, "digits", "linf:0.1", limit=40, **options)
    assert not report.provenance["notes"]


def test_any_module_from_python(linear):
    report = scotoma.audit(
        linear,
        data="digits",
        threat="linf:0.1",
        attack="fmn-linf",
        limit=30,
        probes=["robustness", "robustness"],
    )
    assert [finding.probe for finding in report.findings] == ["robustness"]
    assert report.html.exists()
    assert report.provenance["command"] == (
        "scotoma.audit(Sequential, data='digits', threat='linf:0.1', probes=['robustness', "
        "'robustness'], limit=30, "
        "attack='fmn-linf', seed=0)"
    )


@pytest.mark.usefixtures("undrawn")
def test_without_a_training_split_some_questions_cannot_be_asked(
    tmp_path, digits, linear, monkeypatch
):
    coarse(monkeypatch)
    data = Dataset(**vars(digits) | {"train": None})
    probes = [QUICK.get(probe, probe) for probe in PROBES]
    report = scotoma.audit(
        linear, data, "linf:0.1", out=tmp_path / "run", probes=probes, attack="fgsm", limit=8
    )
    verdicts = {finding.probe: finding.verdict for finding in report.findings}
    assert verdicts["distance"] == "not applicable"
    assert "no training split" in report["distance"].headline
    assert verdicts["transfer"] == "not applicable"
    assert "option sources" in report["transfer"].headline
    assert verdicts["robustness"] != "not applicable"


class Wrong(nn.Module):
    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, images):
        return -self.module(images)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("limit", [1, 2, pytest.param(5, marks=pytest.mark.slow), 30])
def test_few_images_and_models_that_are_never_right(tmp_path, linear, limit):
    for name, model in {"right": linear, "wrong": Wrong(linear)}.items():
        report = scotoma.audit(
            model,
            "digits",
            "linf:0.1",
            out=tmp_path / name,
            probes=ATTACKING,
            attack="ifgsm",
            limit=limit,
            force=name == "wrong",
        )
        assert "nan" not in " ".join(finding.headline for finding in report.findings)
        if name == "wrong":
            assert {finding.verdict for finding in report.findings} == {"not applicable"}
            assert report["robustness"].numbers["attack_success"] is None


@pytest.mark.usefixtures("undrawn")
def test_an_attack_that_never_succeeds_breaks_nothing(tmp_path, digits):
    known = digits.test.images(torch.arange(500)).flatten(1)

    class Nearest(nn.Module):
        """Knows the test images by heart and has no gradient."""

        def forward(self, images):
            nearest = torch.cdist(images.flatten(1), known).argmin(1)
            return (
                nn.functional.one_hot(digits.test.labels[nearest], 10).float() * 9
                + 0 * images.sum()
            )

    report = scotoma.audit(
        Nearest(),
        "digits",
        "linf:0.01",
        out=tmp_path / "run",
        probes=ATTACKING,
        attack="pgd",
        limit=40,
    )
    assert report["robustness"].numbers["median_linf"] is None
    assert report["distance"].numbers["spearman"] is None
    assert any("radient" in note for note in report.provenance["notes"])
    assert "nan" not in " ".join(finding.headline for finding in report.findings)


def test_probabilities_and_randomness_are_named_in_the_report(tmp_path, linear, capsys):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = linear

        def forward(self, images):
            return (self.module(images) + 0.2 * torch.randn(len(images), 10)).softmax(1)

    reports = [
        scotoma.audit(
            Odd(),
            "digits",
            "linf:0.1",
            out=tmp_path / name,
            attack="fmn-linf",
            probes=["robustness"],
            limit=30,
        )
        for name in "ab"
    ]
    reports[0].show()
    printed = capsys.readouterr().out
    page = reports[0].html.read_text()
    for word in ("randomised", "probabilities"):
        assert word in printed
        assert word in page
    assert reports[0].provenance["digest"] == reports[1].provenance["digest"]
    assert reports[0].records.equals(reports[1].records)


def test_unknown_names_are_told_before_anything_is_written(tmp_path, linear):
    out = tmp_path / "run"
    changes: list[tuple[dict[str, Any], str]] = [
        ({"probes": ["blindspot"]}, "did you mean 'blindspots'"),
        ({"attack": "fmn-lin"}, "did you mean 'fmn-linf'"),
        ({"limit": 0}, "limit=0: want at least one image"),
        ({"seed": -1}, "seed=-1: want"),
        (
            {"threat": "l1:5"},
            "threat=l1:5: audits support L-inf and L2; attack fmn-l1 supports L1",
        ),
        ({"threat": "l0:5"}, "attack sigma-zero supports L0"),
        ({"threat": "l2:0.5", "attack": "fmn-linf"}, "attack fmn-linf is for linf, not for l2"),
        (
            {"probes": [Transfer(sources=["missing.safetensors"])]},
            "missing.safetensors: no such file",
        ),
        ({"attack": "transfer"}, "give sources=MODEL,MODEL"),
        ({"probes": [Distance(layer="fc9")]}, "no layer"),
        ({"probes": [Divergence(layer="fc9")]}, "no layer"),
        ({"probes": [Norms(bounds=["l0:1.5"])]}, "bounds=l0:1.5: .* whole number"),
    ]
    for given, says in changes:
        with pytest.raises(InputError, match=says):
            scotoma.audit(linear, "digits", **{"threat": "linf:0.1", "out": out} | given)
        assert not out.exists()


def test_importing_costs_no_torch():
    code = (
        "import scotoma, scotoma.cli, sys; print([m for m in ('torch', 'polars', 'numpy', "
        "'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_rate_has_its_interval_around_it(found):
    def look(value):
        if isinstance(value, dict):
            for key, low in value.items():
                stem = key.removesuffix("_low")
                if stem != key and low is not None and value[stem] is not None:
                    assert low <= value[stem] <= value[f"{stem}_high"]
                look(low)
        elif isinstance(value, list):
            for item in value:
                look(item)
        elif isinstance(value, float):
            assert math.isfinite(value)

    look(found["findings"])
