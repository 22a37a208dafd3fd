import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from contrast_hole import Hole, quadrants

import scotoma
from once import once
from scotoma.execution.run import name
from scotoma.probes.blindspots.map import BlindSpotMap
from scotoma.probes.blindspots.map_report import describe, headline
from scotoma.probes.blindspots.map_result import Family, SearchResult
from scotoma.probes.blindspots.transformed import TransformedSet
from scotoma.report.publishing import draw
from scotoma.results.finding import Finding, Heatmap
from scotoma.results.report import read_report
from scotoma.threat import Threat
from scotoma.transforms.blur import Blur
from scotoma.transforms.control import Control
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.errors import InputError

EPS = 0.005
DEPTH = 15.0
PROBE = BlindSpotMap(
    ("scale-shift", "blur"), resolution=4, lowest=0.6, rounds=1, steps=40, composed=0
)


def find(out, model, data, probe: BlindSpotMap) -> Finding:
    claim = f"linf:{EPS}"
    return scotoma.audit(model, data, claim, out=out, probes=[probe], attack="min-linf", limit=100)[
        "map"
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The audit of a hole at a cell of the grid, made once a session, in a folder of our own."""
    made = once("map-of-a-hole", lambda out: find(out, Hole(DEPTH), quadrants(0.01, 400), PROBE))
    return shutil.copytree(made, tmp_path_factory.mktemp("map") / "run")


@pytest.fixture(scope="module")
def finding(folder) -> Finding:
    return read_report(folder)["map"]


def test_the_known_blind_spot_is_found(finding):
    numbers = finding.numbers
    assert finding.verdict == "broken"
    assert numbers["worst_family"] == "scale-shift"
    assert numbers["worst_parameters"] == pytest.approx({"alpha": 0.7, "beta": 0.05}, abs=0.03)
    assert numbers["worst_accuracy"] == numbers["base_accuracy"] == 1
    assert numbers["worst_success_alpha_eps"] == pytest.approx(
        2 * Hole(DEPTH).falls(0.7, 0.05, EPS), abs=0.05
    )
    assert numbers["base_success_eps"] < 0.1
    assert numbers["n"] == 50, "the other half chose the transforms"


def test_every_cell_of_the_plane_is_as_robust_as_it_must_be(finding):
    plane, step = finding.tables["plane"], 0.1
    assert [(row["alpha"], row["beta"]) for row in plane] == [
        pytest.approx((1 - i * step, j * step / 2)) for i in range(5) for j in range(-i, i + 1)
    ]
    for row in plane:
        falls = (Hole(DEPTH).falls(row["alpha"], row["beta"], EPS) - 0.01) / 0.49
        assert row["robust_alpha_eps"] == pytest.approx(1 - falls, abs=0.06)
        assert row["robust_eps"] <= row["robust_alpha_eps"] <= row["accuracy"] == 1
        assert row["robust_eps_low"] <= row["robust_eps"] <= row["robust_eps_high"]
        assert (row["n_accuracy"], row["n_robust"]) == (400, 50)
        assert row["seems_harmless"] is True


def test_cells_are_those_of_the_cheap_attack_on_the_other_half(finding):
    cells = finding.tables["plane"] + finding.tables["refined"]
    worst = finding.numbers["worst_parameters"]
    assert (worst["alpha"], worst["beta"]) in {(row["alpha"], row["beta"]) for row in cells}
    for row in cells[1:]:
        for size in ("eps", "alpha_eps"):
            assert row[f"robust_{size}"] == row[f"cheap_robust_{size}"]


def test_what_the_test_set_predicts_and_what_is_left(finding):
    numbers = finding.numbers
    assert numbers["predicted_robust"] == numbers["base_robust_eps"], "no image is misclassified"
    assert numbers["residual"] == pytest.approx(
        numbers["worst_robust_alpha_eps"] - numbers["base_robust_eps"], abs=1e-5
    )
    assert numbers["residual_high"] < -0.3


@pytest.mark.usefixtures("undrawn")
@pytest.mark.slow
def test_between_the_cells_the_search_goes_on(tmp_path):
    probe = BlindSpotMap(("scale-shift",), resolution=2, lowest=0.6, rounds=2, steps=20, composed=0)
    found = find(tmp_path / "run", Hole(DEPTH), quadrants(0.01, 400), probe)
    assert found.numbers["worst_parameters"] == pytest.approx(
        {"alpha": 0.7, "beta": 0.05}, abs=0.03
    )
    plane, refined = found.tables["plane"], found.tables["refined"]
    assert (
        min(row["robust_alpha_eps"] for row in refined)
        < min(row["robust_alpha_eps"] for row in plane) - 0.3
    )
    cells = [(row["alpha"], row["beta"]) for row in plane + refined]
    assert len(set(cells)) == len(cells)
    assert all(0.6 <= alpha <= 1 and abs(beta) <= (1 - alpha) / 2 + 1e-9 for alpha, beta in cells)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_model_that_does_not_mind_holds(tmp_path):
    probe = BlindSpotMap(("scale-shift", "rotate"), resolution=2, rounds=1, steps=10, composed=0)
    found = find(tmp_path / "run", Hole(0.0), quadrants(0.3, 400), probe)
    assert found.verdict == "holds"
    assert [row["family"] for row in found.tables["families"]] == ["none", "scale-shift", "rotate"]
    for row in found.tables["families"]:
        assert row["success_eps"] == row["success_alpha_eps"] == 0
    assert found.numbers["worst_robust_eps"] == found.numbers["base_robust_eps"] == 1
    assert "stays at 0.0%" in found.headline


def test_families_stand_beside_their_controls(finding):
    base, *families = finding.tables["families"]
    assert (base["family"], base["control_success_eps"], base["mean_change"]) == ("none", None, 0)
    assert base["success_eps"] == finding.numbers["base_success_eps"]
    assert [row["family"] for row in families] == ["scale-shift", "blur"]
    for row in families:
        for rate in (
            "accuracy",
            "success_eps",
            "success_alpha_eps",
            "control_accuracy",
            "control_success_eps",
        ):
            assert 0 <= row[f"{rate}_low"] <= row[rate] <= row[f"{rate}_high"] <= 1
        assert row["mean_change"] > 0
        assert row["success_alpha_eps"] <= row["success_eps"]
    assert families[1]["success_alpha_eps"] == families[1]["success_eps"]
    assert {row["family"] for row in finding.tables["sweeps"]} == {"blur"}
    assert families[1]["transform"] in [
        row["transform"] for row in finding.tables["sweeps"] if row["seems_harmless"]
    ]


def test_it_is_drawn_again_to_the_byte(finding, folder):
    files = [folder / "report.html", *sorted((folder / "figures").iterdir())]
    assert {"map-robust.svg", "map-accuracy.svg", "map-families.svg", "map-worst.svg"} <= {
        file.name for file in files
    }
    before = [file.read_bytes() for file in files]
    redrawn = draw(folder)["map"]
    assert [file.read_bytes() for file in files] == before
    assert redrawn.tables == finding.tables
    assert (
        json.loads((folder / "findings.json").read_text())["findings"][0]["numbers"]
        == finding.numbers
    )
    assert finding.images["worst"].shape[1:] == (3, 1, 16, 16)


@pytest.mark.usefixtures("undrawn")
def test_a_second_map_does_no_work_twice(finding, folder):
    before = sorted(path.name for path in (folder / "units").iterdir())
    found = find(folder, Hole(DEPTH), quadrants(0.01, 400), PROBE)
    assert sorted(path.name for path in (folder / "units").iterdir()) == before
    assert found.tables == finding.tables


@pytest.mark.usefixtures("undrawn")
def test_a_model_that_classifies_nothing_correctly(tmp_path, digits, linear):
    class Wrong(type(linear)):
        def forward(self, input):
            return -super().forward(input)

    options: dict = {"out": tmp_path / "run", "probes": [BlindSpotMap()], "limit": 20}
    report = scotoma.audit(Wrong(*linear), digits, "linf:0.1", force=True, **options)
    assert report["map"].verdict == "not applicable"
    assert "classifies none" in report["map"].headline


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("families", "limit", "says"),
    [
        (("scale-shift",), 1, "One image is too few"),
        (("hue", "tint"), 6, "hue, tint change colours"),
    ],
)
def test_a_map_without_anything_to_search_says_why(tmp_path, digits, linear, families, limit, says):
    options: dict = {"probes": [BlindSpotMap(families)], "limit": limit, "attack": "fgsm"}
    finding = scotoma.audit(linear, digits, "linf:0.1", out=tmp_path / "run", **options)["map"]
    assert (finding.verdict, says in finding.headline) == ("not applicable", True)


def test_families_must_be_known():
    with pytest.raises(InputError, match="did you mean 'blur'"):
        BlindSpotMap(("blurr",))
    with pytest.raises(InputError, match="families"):
        BlindSpotMap(())


SHIFT = ScaleShift(0.5, 0.0)
N = 30


def attacked(
    scaled: int, eps: int = 0, transform=None, wrong: int = 0, offset: int = 0
) -> TransformedSet:
    """Thirty images, of which these numbers are fooled at half eps, at eps and without attack."""
    sizes = np.full(N, np.inf)
    sizes[:eps] = 0.19
    sizes[:scaled] = 0.05
    predictions = [int(i >= N - wrong) for i in range(N)]
    sizes[N - wrong :] = 0.0
    frame = pl.DataFrame(
        {
            "index": range(offset, offset + N),
            "label": [0] * N,
            "prediction": predictions,
            "success": np.isfinite(sizes),
            "linf": sizes,
            "linf_attack": ["made up"] * N,
            "linf_prediction": [1] * N,
        }
    )
    known = pl.DataFrame({"index": range(400), "label": [0] * 400, "prediction": [0] * 400})
    return TransformedSet(transform, frame, Threat("linf", 0.2), 0.01, known)


def family(name: str, scaled: int, control: int, transform, chosen: int = 10) -> Family:
    """A family whose transform fools `scaled` images on the half reported on, at every size."""
    return Family(
        name,
        attacked(chosen, chosen, transform, offset=N),
        attacked(scaled, scaled, transform),
        attacked(control, control + 4, Control(transform), wrong=3),
    )


def searched(*families: Family, base: int = 3, **more) -> SearchResult:
    halves = list(range(N, 2 * N)), list(range(N))
    return SearchResult(attacked(base, base), *halves, list(families), **more)


class Rows:
    """A ledger with the records of the audit attack alone."""

    def __init__(self, result: SearchResult):
        controls = [each.control for each in result.families if each.control]
        sets = [result.base, *result.verified, *controls, *result.plane]
        self.known = {name(each.transform): each.records for each in sets}

    def on(self, indices):
        return self

    def rows(self, transform):
        return self.known[transform]


def described(result: SearchResult, monkeypatch) -> Finding:
    picture = np.zeros((1, 3, 1, 4, 4), np.float32)
    monkeypatch.setattr(TransformedSet, "images", lambda self, run, rows: picture)
    run = SimpleNamespace(claim=SimpleNamespace(data=SimpleNamespace(classes="0123456789")))
    return describe(result, "?", run, "made up", 5, Rows(result))  # type: ignore[arg-type]


def test_the_headline_compares_with_the_control_at_the_same_budget():
    text = headline(searched(family("scale-shift", 9, 6, SHIFT)))
    assert text == (
        "After scale-shift with alpha 0.5, beta 0 (harmless: accuracy 100.0%, before 100.0%; "
        "chosen on 30 other images) the attack success rate rises from 10.0% to 30.0% of "
        "correctly classified images at the scaled budget alpha·eps (30.0% at eps). After a "
        "random change of the same size it is 22.2% at alpha·eps (accuracy 100.0%)."
    )
    blurred = family("blur", 9, 6, Blur(0.6))
    assert "it is 37.0% (accuracy" in headline(searched(blurred)), "alpha is 1"
    never = replace(blurred, control=attacked(0, 0, wrong=N))
    assert headline(searched(never)).endswith("no image is classified correctly.")
    assert "nan" not in headline(searched(never))
    assert headline(searched()).startswith(
        "No transform of the search with valid images is shown to be"
    )


def test_a_family_that_shows_more_on_the_other_half_is_named():
    shift, blur = family("scale-shift", 9, 6, SHIFT, 12), family("blur", 15, 6, Blur(1.0), 10)
    assert headline(searched(shift, blur)).endswith(
        " On these images, which were not used to choose, blur of sigma 1 px gives a higher rate: "
        "50.0%."
    )
    equal = family("blur", 9, 6, Blur(1.0), 10)
    assert "a higher rate" not in headline(searched(shift, equal))


def test_each_rate_has_its_number_of_images(monkeypatch):
    result = searched(family("blur", 9, 6, Blur(0.6)), Family("gamma"))
    finding = described(result, monkeypatch)
    base, blur, gamma = finding.tables["families"]
    assert [blur[f"n_{of}"] for of in ("accuracy", "success", "robust", "control_success")] == [
        400,
        30,
        30,
        27,
    ]
    assert (base["n_success"], base["fall"]) == (30, None)
    assert gamma["change"] == "gamma: none is shown to be harmless"
    assert (finding.numbers["n"], finding.numbers["n_chosen_on"]) == (30, 30)
    assert finding.numbers["n_control_success"] == 27
    assert any(note.startswith("Of the 60 audited images") for note in finding.notes)


@pytest.mark.parametrize(("fooled", "expected"), [(3, "holds"), (8, "undecided"), (25, "broken")])
def test_the_fall_that_the_verdict_is_about_is_in_the_table(monkeypatch, fooled, expected):
    finding = described(searched(family("blur", fooled, 6, Blur(0.6))), monkeypatch)
    assert finding.verdict == expected
    row = finding.tables["families"][1]
    assert row["fall"] == pytest.approx((fooled - 3) / N, abs=1e-5)
    assert (row["fall_low"] > 0.1) == (expected == "broken")


def test_cells_only_seem_harmless_and_the_ring_is_shown_to_be(monkeypatch):
    shift = family("scale-shift", 9, 6, SHIFT)
    finding = described(
        searched(shift, plane=[attacked(3), attacked(9, 9, SHIFT)]),
        monkeypatch,
    )
    assert all(row["seems_harmless"] for row in finding.tables["plane"])
    assert all("harmless" not in row for row in finding.tables["plane"])
    robust = next(each for each in finding.figures if each.name == "robust")
    assert isinstance(robust, Heatmap)
    assert robust.region == "seems_harmless"
    assert robust.marks == {"worst that is shown to be harmless": (0.5, 0.0)}
