"""What stays of adversarial images on disk, and what an audit can no longer do without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from torch import nn

import scotoma
from centroids import centroids
from scotoma.probes.transfer.probe import Transfer
from scotoma.report import publishing
from scotoma.results.examples import EXAMPLE
from scotoma.results.finding import Gallery
from scotoma.results.report import Report, read_report
from scotoma.results.verify import verify
from scotoma.utils.errors import InputError


@pytest.fixture(scope="module")
def folders(digits, tmp_path_factory) -> dict[str, Path]:
    """The same audit with each choice."""
    by_choice = {}
    for keep in ("examples", "shown", "none"):
        folder = tmp_path_factory.mktemp(keep) / "run"
        audit(digits, folder, keep)
        by_choice[keep] = folder
    return by_choice


def audit(digits, folder: Path, keep: str) -> Report:
    other = centroids(digits)
    other[1].weight[:4] *= 0.8  # type: ignore[index, operator]
    probes: list[Any] = ["robustness", Transfer([other])]
    options: dict[str, Any] = {
        "probes": probes,
        "attack": "fgsm",
        "limit": 12,
        "keep": keep,
        "out": folder,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "draw", read_report)
        return scotoma.audit(centroids(digits), digits, "linf:0.2", **options)


def stored(folder: Path) -> int:
    """Return the number of adversarial images in the work units."""
    tables = [pl.read_parquet(path) for path in (folder / "units").glob("*.parquet")]
    return sum(len(each[EXAMPLE].drop_nulls()) for each in tables if EXAMPLE in each.columns)


def pictures(folder: Path) -> list[Gallery]:
    figures = [each for finding in read_report(folder).findings for each in finding.figures]
    return [each for each in figures if isinstance(each, Gallery) and each.adversarial]


def test_findings_do_not_depend_on_what_is_kept(folders):
    digests = [
        json.loads((folder / "findings.json").read_text())["provenance"]["digest"]
        for folder in folders.values()
    ]
    assert len(set(digests)) == 1


def test_only_what_is_asked_for_stays(folders):
    assert stored(folders["examples"]) > 12
    assert stored(folders["shown"]) == stored(folders["none"]) == 0
    assert len(pictures(folders["examples"])) == len(pictures(folders["shown"])) == 2
    assert not pictures(folders["none"])


@pytest.mark.parametrize("keep", ["shown", "none"])
def test_verify_says_what_it_cannot_check(folders, digits, keep):
    loaded = scotoma.load_model(centroids(digits), data=digits)
    checks = {check.name: check for check in verify(folders[keep], loaded, digits)}
    undecided = {name for name, check in checks.items() if check.agrees is None}
    assert undecided == {"successes", "sizes in all norms"}
    text = {"shown": "only the images shown in the report were kept", "none": "kept no adversarial"}
    assert text[keep] in checks["successes"].detail
    assert ("shown images" in checks) == (keep == "shown")
    whole = verify(folders["examples"], loaded, digits)
    assert all(check.agrees for check in whole)


def test_verify_evaluates_the_images_that_are_shown(folders, digits):
    shown = sum(len(each.captions) for each in pictures(folders["shown"]))
    for model, agree in ((centroids(digits), shown), (inverted(centroids(digits)), 0)):
        checks = verify(folders["shown"], scotoma.load_model(model, data=digits), digits)
        (check,) = [each for each in checks if each.name == "shown images"]
        assert check.agrees == (agree == shown)
        assert check.detail.startswith(f"{agree} of {shown} adversarial images in the report")


def inverted(model: nn.Sequential) -> nn.Sequential:
    """Return the model with the opposite order of its logits."""
    model[1].weight.mul_(-1)  # type: ignore[operator]
    model[1].bias.mul_(-1)  # type: ignore[operator]
    return model


def test_the_report_says_so(folders):
    note = " ".join(read_report(folders["shown"]).provenance["notes"])
    assert "--keep shown" in note
    assert "attacks again" in note
    assert "keep" not in read_report(folders["examples"]).provenance


def test_an_audit_without_images_continues_from_its_records(folders, digits):
    units = {path.name for path in (folders["none"] / "units").iterdir()}
    audit(digits, folders["none"], "none")
    assert {path.name for path in (folders["none"] / "units").iterdir()} == units
    assert stored(folders["none"]) == 0


def test_another_word_is_an_error(digits, tmp_path):
    with pytest.raises(InputError, match="want one of examples, shown, none"):
        audit(digits, tmp_path / "run", "all")
