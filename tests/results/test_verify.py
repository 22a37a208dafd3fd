"""`scotoma verify` confirms an audit, and finds what was changed after it."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

import scotoma as library
from centroids import centroids
from once import once
from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.models.defences.randomised import InputNoise
from scotoma.models.loading import load_model
from scotoma.probes.blindspots.probe import BlindSpots
from scotoma.probes.norms.probe import Norms
from scotoma.probes.transfer.probe import Transfer
from scotoma.report import publishing
from scotoma.results.examples import EXAMPLE, ROUNDING
from scotoma.results.report import read_report
from scotoma.results.verify import Check, verify
from scotoma.threat import Threat


@pytest.fixture(scope="module")
def audited(tmp_path_factory, digits, digits_model) -> Path:
    def make(folder: Path) -> None:
        probes = ["robustness", BlindSpots(), Norms({"l2": ("deepfool",)})]
        probes.append(Transfer([centroids(digits)]))
        options: dict = {"out": folder, "probes": probes, "attack": "fmn-linf", "limit": 15}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(publishing, "draw", read_report)
            library.audit(str(digits_model), "digits", "linf:0.1", **options)

    return once("audit-to-verify", make)


@pytest.fixture
def run(audited, tmp_path) -> Path:
    """A copy of the run folder that a test may change."""
    return shutil.copytree(audited, tmp_path / "run")


@pytest.fixture
def differing(run, digits_model) -> Callable[[], set[str]]:
    """The names of the checks that differ."""

    def differing(model: object = None) -> set[str]:
        loaded = load_model(model or str(digits_model))  # type: ignore[arg-type]
        checks = verify(run, loaded, load_data("digits"))
        return {check.name for check in checks if check.agrees is False}

    return differing


def unit(run: Path, attack: str) -> tuple[Path, pl.DataFrame]:
    """The work unit of an attack on the test set itself: its file and its table."""
    for path in sorted((run / "units").glob("*.parquet")):
        table = pl.read_parquet(path)
        if EXAMPLE in table.columns and "success" in table.columns:
            name, transform = table.select("attack", "transform").row(0)
            if name.startswith(attack) and transform == "none":
                return path, table
    raise AssertionError(attack)


def rewrite(path: Path, table: pl.DataFrame) -> None:
    """Replace a work unit by another table, under the name that this content has."""
    text = pl.read_parquet_metadata(path)["scotoma"]
    content = io.BytesIO()
    table.write_parquet(content, metadata={"scotoma": text})
    key, code = (hashlib.sha256(each).hexdigest() for each in (text.encode(), content.getvalue()))
    path.unlink()
    (path.parent / f"{key[:32]}.{code[:16]}.parquet").write_bytes(content.getvalue())


def test_an_audit_is_confirmed(run, scotoma, digits_model):
    ended = scotoma("verify", run, digits_model, "--data", "digits")
    assert ended.code == 0, ended.out
    assert ended.out.rstrip().endswith("all that was checked agrees")
    checks = {
        each.name: each for each in verify(run, load_model(str(digits_model)), load_data("digits"))
    }
    assert {each.agrees for each in checks.values()} == {True}
    records = pl.read_parquet(run / "records.parquet")
    fooled = records["success"].sum()
    assert f"{fooled:,} of {fooled:,} stored images" in checks["successes"].detail
    assert records["attack"].str.contains(" on ").any()
    assert records["transform"].n_unique() == 7


def test_without_the_model_the_files_are_checked(run, scotoma):
    ended = scotoma("verify", run)
    assert ended.code == 0
    assert "not checked without the model" in " ".join(ended.out.split())


def test_a_record_that_was_changed_is_found(run, differing):
    path = run / "records.parquet"
    records = pl.read_parquet(path)
    first = pl.int_range(pl.len()) == records.select(pl.col("success").arg_max()).item()
    records.with_columns(linf=pl.when(first).then(0.5).otherwise("linf")).write_parquet(path)
    assert differing() >= {"records"}


def test_a_size_that_was_changed_everywhere_is_found(run, differing):
    file, table = unit(run, "FMN")
    halved = table.with_columns(linf=(pl.col("linf") / 2).cast(pl.Float32))
    rewrite(file, halved)
    path = run / "records.parquet"
    records = pl.read_parquet(path)
    selected = (pl.col("attack") == table["attack"][0]) & (pl.col("transform") == "none")
    half = pl.when(selected).then(pl.col("linf") / 2).otherwise("linf").cast(pl.Float32)
    records.with_columns(linf=half).write_parquet(path)
    assert differing() >= {"ledger", "sizes in all norms"}


def test_images_that_were_swapped_are_found(run, differing):
    file, table = unit(run, "FMN")
    fooled = table.filter("success")
    swapped = fooled.with_columns(pl.col(EXAMPLE, ROUNDING).reverse())
    rewrite(file, pl.concat([swapped, table.filter(~pl.col("success"))]))
    assert "sizes in all norms" in differing()


def test_an_image_that_fools_nothing_is_found(run, differing):
    file, table = unit(run, "FMN")
    nothing = np.zeros((len(table), 64), np.float32)  # no difference: the attacked image itself
    columns = {EXAMPLE: nothing, ROUNDING: nothing.astype(np.int32)}
    rewrite(
        file,
        table.with_columns(
            pl.when("success").then(pl.Series(values, dtype=table[name].dtype)).alias(name)
            for name, values in columns.items()
        ),
    )
    assert {"successes", "sizes in all norms"} <= differing()


class KnowsTheTestSet(nn.Module):
    """Says the class of the nearest test image, so that small changes fool it nowhere."""

    def __init__(self, data: Dataset):
        super().__init__()
        self.images = data.test.images(torch.arange(len(data.test))).flatten(1)
        self.labels = data.test.labels

    def forward(self, images: Tensor) -> Tensor:
        nearest = torch.cdist(images.flatten(1), self.images).argmin(1)
        return nn.functional.one_hot(self.labels[nearest], 10).float()


@pytest.mark.parametrize("sigma", [0.02, 0.2])
def test_a_randomised_model_is_asked_often(tmp_path, digits_model, sigma: float):
    """What it says of an image by chance is no fault; another model is one."""
    model, data = load_model(str(digits_model)), load_data("digits")
    noisy = InputNoise(model.module, sigma).eval()
    options: dict = {"probes": ["robustness"], "attack": "ifgsm", "limit": 30}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "draw", read_report)
        library.audit(noisy, "digits", "linf:0.3", out=tmp_path / "run", **options)
    checks = {each.name: each for each in verify(tmp_path / "run", load_model(noisy), data)}
    for name in ("clean predictions", "successes"):
        assert checks[name].agrees, checks[name]
    stored = int(checks["sizes in all norms"].detail.split()[0])
    assert stored >= 10
    assert f"of {stored} stored images are misclassified, or nearly" in checks["successes"].detail
    untrained = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    faults = []
    for network in (KnowsTheTestSet(data), untrained):
        other = load_model(InputNoise(network, sigma).eval())
        results = verify(tmp_path / "run", other, data)
        faults.append({each.name for each in results if each.agrees is False})
    assert "successes" in faults[0]
    assert "clean predictions" in faults[1]


def test_a_success_without_its_image_is_found(run, differing):
    file, table = unit(run, "FMN")
    rewrite(file, table.with_columns(pl.lit(None, table[EXAMPLE].dtype).alias(EXAMPLE)))
    assert differing() == {"records"}


def test_another_model_is_found(run, digits, scotoma, digits_model, tmp_path, differing):
    assert differing(centroids(digits)) >= {"model", "clean predictions", "successes"}
    other = tmp_path / "other.safetensors"
    content = bytearray(digits_model.read_bytes())
    content[-3] ^= 1  # one bit of one weight
    other.write_bytes(bytes(content))
    ended = scotoma("verify", run, other, "--data", "digits")
    assert ended.code == 1
    assert "this audit does not verify: model" in ended.out


def test_other_data_are_found(run, grey, digits_model):
    checks = verify(run, load_model(str(digits_model)), grey)
    assert {check.name for check in checks if check.agrees is False} == {"data"}
    assert checks[-1] == Check("successes", None, "not checked on other data")


def test_a_ledger_and_a_rate_that_were_changed_are_found(run, differing):
    path = run / "ledger.parquet"
    ledger = pl.read_parquet(path)
    ledger.with_columns(linf=pl.lit(0.3, pl.Float32)).write_parquet(path)
    assert differing() == {"ledger", "rates and intervals"}


def test_images_that_were_left_out_of_the_ledger_are_found(run, differing):
    """Rates of the images that withstand, with all other files as the audit wrote them."""
    ledger = pl.read_parquet(run / "ledger.parquet")
    fooled = ledger.filter(pl.col("linf") <= 0.1)["index"].unique().to_list()
    remaining = ledger.filter(~pl.col("index").is_in(fooled))
    remaining.write_parquet(run / "ledger.parquet")
    n = remaining.filter(transform="none").height
    assert 0 < n < 15

    def restated(content: dict) -> dict:
        for end, value in {
            "": 1.0,
            "_low": 1 / (1 + 1.959963984540054**2 / n),
            "_high": 1.0,
        }.items():
            content["numbers"] |= {
                f"{name}{end}": value for name in ("clean_accuracy", "robust_accuracy")
            }
            content["numbers"][f"attack_success{end}"] = round(1 - value, 6)
        success = content["numbers"]
        success["attack_success_low"], success["attack_success_high"] = (
            success["attack_success_high"],
            success["attack_success_low"],
        )
        content["numbers"]["n"] = n
        return content

    findings = json.loads((run / "findings.json").read_text())
    (robustness,) = [each for each in findings["findings"] if each["probe"] == "robustness"]
    restated(robustness)
    findings["claim"]["n"] = n
    text = json.dumps(findings["findings"], sort_keys=True)
    findings["provenance"]["digest"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    (run / "findings.json").write_text(json.dumps(findings))
    own = run / "findings" / "robustness.json"
    own.write_text(json.dumps(restated(json.loads(own.read_text()))))
    assert differing() == {"ledger"}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("threat", ["l2:36/255", "l2:1/3"])
def test_an_audit_within_a_size_of_many_digits_is_confirmed(digits, tmp_path, threat: str):
    model, options = centroids(digits), {"probes": ["robustness"], "attack": "fmn-l2", "limit": 10}
    report = library.audit(model, digits, threat, out=tmp_path, **options)
    checks = verify(tmp_path, load_model(model), digits)
    assert [check.name for check in checks if not check.agrees] == []
    text = report.provenance["command"].partition("threat='")[2].partition("'")[0]
    assert Threat.parse(text).eps == pytest.approx(Threat.parse(threat).eps, rel=1e-9)


def test_a_number_that_was_changed_is_found(run, differing):
    path = run / "findings.json"
    content = json.loads(path.read_text())
    (robustness,) = [each for each in content["findings"] if each["probe"] == "robustness"]
    robustness["numbers"]["robust_accuracy"] = 0.99
    path.write_text(json.dumps(content))
    assert differing() == {"rates and intervals", "digest of findings"}


def test_a_work_unit_that_was_changed_is_found(run, scotoma):
    file = sorted((run / "units").glob("*.parquet"))[0]
    file.write_bytes(file.read_bytes() + b" ")
    ended = scotoma("verify", run)
    assert ended.code == 1
    assert "files unchanged" in ended.out.splitlines()[-1]


@pytest.mark.usefixtures("undrawn")
def test_a_folder_that_was_used_with_another_seed_is_confirmed(digits, tmp_path):
    model = centroids(digits)
    for seed in (0, 3, 1):
        options = {"probes": ["robustness"], "attack": "fmn-linf", "limit": 25, "seed": seed}
        report = library.audit(model, digits, "linf:0.1", out=tmp_path, **options)
        notes = " ".join(report.provenance["notes"])
        assert (f"of seed {seed}, replaces that of seed " in notes) == (seed != 0)
        checks = verify(tmp_path, load_model(model), digits)
        assert [check.name for check in checks if not check.agrees] == []


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("claim.json", {}),
        ("claim.json", []),
        ("findings.json", []),
        ("findings.json", {"claim": {}, "provenance": {}, "findings": [1]}),
    ],
)
def test_a_file_of_another_form_is_a_line(run, scotoma, file: str, content: object):
    (run / file).write_text(json.dumps(content))
    ended = scotoma("verify", run)
    assert ended.code == 2, ended
    assert "not as an audit writes it" in ended.err


def test_a_threat_that_is_none_is_a_line(run, scotoma):
    claim = json.loads((run / "claim.json").read_text())
    (run / "claim.json").write_text(json.dumps(claim | {"threat": "zzz"}))
    assert scotoma("verify", run).code == 2


def test_bad_input_is_a_line(run, scotoma, tmp_path, digits_model):
    for arguments, says in (
        ([tmp_path / "nothing"], "no such file; is"),
        ([run, digits_model], "give both the model and --data"),
        ([run, tmp_path / "no.safetensors", "--data", "digits"], "no such file"),
    ):
        ended = scotoma("verify", *arguments)
        assert (ended.code, says in ended.err) == (2, True), ended
