import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from linear_optimum import ExactSettings, optimum
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import nn

import scotoma as api
from centroids import centroids
from scotoma.auditing import make_claim
from scotoma.execution.run import Run
from scotoma.metrics import approximate
from scotoma.models.loading import load_model
from scotoma.probes.base import Settings
from scotoma.probes.distance import space as distance
from scotoma.probes.distance.analysis import SHIFT_BINS
from scotoma.probes.distance.probe import Distance
from scotoma.probes.distance.trend import BINS, Trend
from scotoma.report.figures import draw
from scotoma.results.finding import Finding, Scatter
from scotoma.threat import Threat
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.errors import InputError
from scotoma.utils.stats import Estimate, Rate

THREAT = Threat("linf", 0.02)


@pytest.fixture(scope="module")
def linear_grey(grey) -> nn.Sequential:
    return centroids(grey)


@pytest.fixture(scope="module")
def truth(grey, linear_grey) -> tuple[np.ndarray, np.ndarray]:
    """Mean distance to 5 neighbours and least perturbation of correctly classified images."""
    train, test = (split.images(torch.arange(len(split))) for split in (grey.train, grey.test))
    smallest, _ = optimum(linear_grey, test, grey.test.labels)
    nearest = np.sort(
        cdist(test.flatten(1).double().numpy(), train.flatten(1).double().numpy()), 1
    )[:, :5].mean(1)
    right = (linear_grey(test).argmax(1) == grey.test.labels).numpy()
    return nearest[right], smallest.double().numpy()[right]


@pytest.fixture(scope="module")
def finding(tmp_path_factory, grey, linear_grey):
    claim = make_claim(linear_grey, grey, THREAT)
    return Distance().finding(claim, Run(claim, tmp_path_factory.mktemp("run")), ExactSettings())


def test_the_correlation_of_a_linear_model(finding, truth):
    numbers = finding.numbers
    assert numbers["spearman"] == pytest.approx(spearmanr(*truth)[0], abs=1e-3)
    assert numbers["spearman_low"] < numbers["spearman"] < numbers["spearman_high"]
    assert numbers["n"] == len(truth[0])
    assert numbers["neighbours"] == 5
    assert numbers["training_images"] == 1297
    assert numbers["layer"] == "input of 1"


def test_a_claim_in_l2_is_correlated_by_distances_in_l2(tmp_path, grey, linear_grey, truth):
    claim = make_claim(linear_grey, grey, Threat("l2", 0.1))
    finding = Distance().finding(claim, Run(claim, tmp_path / "run"), ExactSettings())
    images = grey.test.images(torch.arange(len(grey.test)))
    right = linear_grey(images).argmax(1) == grey.test.labels
    smallest = optimum(linear_grey, images, grey.test.labels, "l2")[0][right].numpy()
    assert finding.numbers["spearman"] == pytest.approx(spearmanr(truth[0], smallest)[0], abs=1e-3)
    assert finding.numbers["spearman"] != pytest.approx(spearmanr(*truth)[0], abs=1e-3), (
        "that of distances in L-inf"
    )
    assert sorted(row["l2"] for row in finding.tables["points"]) == pytest.approx(
        np.sort(smallest), rel=2e-3
    )
    fell = sum(row["n"] * (row["rate"] or 0) for row in finding.tables["bins"])
    assert fell == pytest.approx((smallest <= 0.1).sum(), abs=2)
    (points,) = (figure for figure in finding.figures if isinstance(figure, Scatter))
    assert (points.y, points.y_label) == ("l2", "smallest L2 perturbation")


def test_the_fifths_and_the_bins_are_those_of_the_distances(finding, truth):
    distance, smallest = truth
    far = np.argsort(distance)[-(len(distance) // 5) :]
    assert finding.numbers["farthest_fifth_success"] == pytest.approx(
        (smallest[far] <= THREAT.eps).mean(), abs=0.02
    )
    bins = finding.tables["bins"]
    assert len(bins) == BINS
    assert sum(row["n"] for row in bins) == len(distance)
    assert sum(row["share"] for row in bins) == pytest.approx(1, abs=1e-4)
    assert bins[0]["left"] == pytest.approx(distance.min(), rel=1e-4)
    assert bins[-1]["right"] == pytest.approx(distance.max(), rel=1e-4)
    for before, after in pairwise(bins):
        assert before["right"] == after["left"]
    for row in bins[:-1]:
        inside = (distance >= row["left"]) & (distance < row["right"])
        assert abs(row["n"] - inside.sum()) <= 1
        assert row["rate"] is None or 0 <= row["rate_low"] <= row["rate"] <= row["rate_high"] <= 1
    assert [row["fifth"] for row in finding.tables["fifths"]] == [1, 2, 3, 4, 5]


def test_distance_as_a_detector_of_a_harmless_change(finding, grey, linear_grey, truth):
    test = grey.test.images(torch.arange(len(grey.test)))
    right = linear_grey(test).argmax(1) == grey.test.labels
    train = grey.train.images(torch.arange(len(grey.train))).flatten(1).double().numpy()
    changed = ScaleShift(0.7, 0)(test[right]).flatten(1).double().numpy()
    moved = np.sort(cdist(changed, train), 1)[:, :5].mean(1)
    n = len(moved)
    expected = roc_auc_score([1] * n + [0] * n, [*moved, *truth[0]])
    assert finding.numbers["auroc_transformed"] == pytest.approx(expected, abs=1e-5)
    assert (
        finding.numbers["auroc_transformed_low"]
        <= finding.numbers["auroc_transformed"]
        <= finding.numbers["auroc_transformed_high"]
    )
    rows = finding.tables["transformed"]
    assert [row["images"] for row in rows] == ["original"] * SHIFT_BINS + [
        str(ScaleShift(0.7, 0))
    ] * SHIFT_BINS
    assert sum(row["share"] for row in rows) == pytest.approx(2, abs=1e-4)
    means = [
        sum(row["share"] * row["distance"] for row in half)
        for half in (rows[:SHIFT_BINS], rows[SHIFT_BINS:])
    ]
    assert means == pytest.approx([truth[0].mean(), moved.mean()], rel=0.02)


def test_what_foretells_success(finding, truth):
    distance, smallest = truth
    numbers, fell = finding.numbers, smallest <= THREAT.eps
    assert numbers["auroc_distance"] == pytest.approx(roc_auc_score(fell, distance), abs=1e-3)
    assert numbers["auroc_margin"] > numbers["auroc_distance"], (
        "of a linear model the margin decides"
    )
    assert numbers["auroc_risk"] >= numbers["auroc_margin"] - 0.02
    assert numbers["auroc_risk_over_margin"] == pytest.approx(
        numbers["auroc_risk"] - numbers["auroc_margin"], abs=1e-5
    )
    assert numbers["slope_margin_high"] < 0
    assert [row["score"] for row in finding.tables["risk"]] == [
        "risk",
        "margin",
        "distance",
        "density",
    ]
    for row in finding.tables["risk"]:
        assert row["n"] == numbers["n"]
        assert row["auroc"] == numbers[f"auroc_{row['score']}"]
        assert 0 <= row["auroc_low"] <= row["auroc"] <= row["auroc_high"] <= 1


@pytest.mark.slow
def test_an_approximate_search_states_its_recall(tmp_path, grey, linear_grey, finding, monkeypatch):
    assert "recall" not in finding.numbers
    assert not any("recall" in note for note in finding.notes)
    for name, value in {"EXACT": 1000, "FEW": 100, "SLOWNESS": 1}.items():
        monkeypatch.setattr(approximate, name, value)
    monkeypatch.setattr(distance, "EXACT", 1000)
    claim = make_claim(linear_grey, grey, THREAT)
    probe = Distance(extractor=load_model(tripled()).checked(grey))
    first, again = (
        probe.finding(claim, Run(claim, tmp_path / "run"), ExactSettings()) for _ in range(2)
    )
    assert again == first, "the recall too is kept in the run folder"
    recall = first.numbers["recall"]
    assert 0.95 <= first.numbers["recall_low"] <= recall <= first.numbers["recall_high"] <= 1
    assert first.numbers["extractor_recall"] >= 0.95
    own, other = first.notes[-2:]
    assert own.startswith(
        "The search for neighbours in input of 1 is approximate: recall of the 5 nearest "
        f"{recall:.3f} (0.9"
    )
    assert "300 queries" in own
    assert "in input of 2 of Sequential" in other
    assert first.numbers["spearman"] == pytest.approx(finding.numbers["spearman"], abs=0.02)


def test_too_few_successes_to_foretell(tmp_path, grey, linear_grey):
    claim = make_claim(linear_grey, grey, Threat("linf", 1e-6))
    finding = Distance().finding(claim, Run(claim, tmp_path / "run"), ExactSettings())
    for name in (
        "auroc_risk",
        "auroc_margin",
        "auroc_distance",
        "auroc_density",
        "slope_distance",
        "slope_margin_low",
    ):
        assert finding.numbers[name] is None
    assert "risk" not in finding.tables
    assert "fewer than 20 successes" in finding.notes[-1]
    assert finding.numbers["auroc_transformed"] is not None
    assert all(draw(figure, finding).startswith("<?xml") for figure in finding.figures)


def tripled(scale: float = 3.0) -> nn.Module:
    """A network whose features are the pixels times `scale`."""
    widen, answer = nn.Linear(64, 64, bias=False), nn.Linear(64, 10)
    with torch.no_grad():
        widen.weight.copy_(scale * torch.eye(64))
    return nn.Sequential(nn.Flatten(), widen, answer)


@pytest.mark.slow
def test_another_extractor_sees_the_same_attack(tmp_path, grey, linear_grey, finding):
    claim = make_claim(linear_grey, grey, THREAT)
    run = Run(claim, tmp_path / "other")
    probe = Distance(extractor=load_model(tripled()).checked(grey))
    both = probe.finding(claim, run, ExactSettings())
    own = {name: value for name, value in both.numbers.items() if not name.startswith("extractor")}
    assert own == finding.numbers
    assert both.headline == finding.headline
    assert both.numbers["extractor"] == "Sequential"
    assert both.numbers["extractor_layer"] == "input of 2"
    for name in (
        "spearman",
        "spearman_given_margin_low",
        "unit_spearman",
        "unit_farthest_fifth_success",
        "slope_distance",
        "auroc_risk",
        "auroc_density",
        "auroc_transformed",
    ):
        assert both.numbers[f"extractor_{name}"] == pytest.approx(own[name], abs=2e-3)
    for name in ("bins", "unit_bins", "fifths", "unit_fifths", "points", "transformed", "risk"):
        assert len(both.tables[f"extractor_{name}"]) == len(both.tables[name])
    for mine, other in zip(both.tables["points"], both.tables["extractor_points"], strict=True):
        assert other["distance"] == pytest.approx(3 * mine["distance"], rel=1e-3)
        assert other["linf"] == mine["linf"]
    names = [figure.name for figure in both.figures]
    assert names == [
        f"{key}{name}"
        for name in ("bins", "unit_bins", "points", "transformed", "risk")
        for key in ("", "extractor_")
    ]
    assert "of Sequential, which is not the model under attack" in both.figures[1].caption
    assert all(draw(figure, both).startswith("<?xml") for figure in both.figures)


def test_an_extractor_is_read_once_and_told_from_another(tmp_path, grey, linear_grey, monkeypatch):
    searches, read = [], []
    search, features = distance.nearest_neighbours, Run.features
    monkeypatch.setattr(
        distance, "nearest_neighbours", lambda *given: searches.append(1) or search(*given)
    )

    def counted(run: Run, split, *given, **options):
        read.append(split is grey.train)
        return features(run, split, *given, **options)

    monkeypatch.setattr(Run, "features", counted)
    claim = make_claim(linear_grey, grey, THREAT)

    def measure(extractor: nn.Module | None) -> Finding:
        other = load_model(extractor).checked(grey) if extractor else None
        run = Run(claim, tmp_path / "run", limit=40)
        return Distance(extractor=other).finding(claim, run, ExactSettings())

    wide = tripled()
    first = measure(wide)
    assert (len(searches), sum(read)) == (2, 2)
    assert measure(wide) == first
    measure(None)
    assert len(searches) == 2
    narrow = measure(tripled(0.5))
    assert len(searches) == 3
    ratios = [
        a["mean_distance"] / b["mean_distance"]
        for a, b in zip(*(x.tables["extractor_fifths"] for x in (first, narrow)), strict=True)
    ]
    assert ratios == pytest.approx([6] * 5, rel=1e-4)


@pytest.mark.slow
def test_an_extractor_from_the_command_line(tmp_path, scotoma, digits_model):
    code = tmp_path / "other.py"
    code.write_text(
        "from torch import nn\ndef build(): return nn.Sequential(nn.Flatten(), nn.Linear(64, "
        "20), nn.Linear(20, 10))\n"
    )
    given = [
        "audit",
        digits_model,
        "--data",
        "digits",
        "--threat",
        "linf:0.1",
        "--attack",
        "fmn-linf",
        "--limit",
        60,
    ]
    given += ["--probes", "distance", "--extractor", f"{code}:build"]
    done = scotoma(*given, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    report = (tmp_path / "run" / "report.html").read_text()
    assert "input of 2 of other.py:build" in report
    wrong = scotoma(*given, "--layer", "relu3", "--out", tmp_path / "wrong")
    assert wrong.code == 2
    assert "other.py:build: the model has no layer 'relu3'" in wrong.err


@pytest.mark.usefixtures("undrawn")
def test_an_extractor_from_python(tmp_path, digits, linear):
    def audit(extractor):
        return api.audit(
            linear,
            "digits",
            "linf:0.1",
            out=tmp_path / "run",
            probes=[Distance(extractor=extractor)],
            attack="pgd",
            limit=30,
        )

    other = tripled()
    report = audit(other)
    assert report.provenance["extractor"]["sha256"] == load_model(other).sha256
    assert report.provenance["command"].count("Distance(extractor=Sequential)") == 1
    with pytest.raises(InputError, match="cannot take images"):
        audit(nn.Linear(3, 10))


@pytest.mark.parametrize("layer", ["pixels", "logits", "relu3", None])
def test_any_layer(tmp_path, digits, digits_model, layer):
    claim = make_claim(str(digits_model), digits, Threat("linf", 0.1))
    settings = Settings(attack="fmn-linf")
    finding = Distance(layer=layer).finding(claim, Run(claim, tmp_path / "run", limit=20), settings)
    assert finding.numbers["layer"] == (layer or "input of fc2")
    assert -1 <= finding.numbers["spearman"] <= 1


def rates(near: tuple[float, float], far: tuple[float, float]) -> tuple[Rate, Rate]:
    nearest, farthest = (Rate((low + high) / 2, low, high, 50) for low, high in (near, far))
    return nearest, farthest


@pytest.mark.parametrize(
    ("near", "far", "high", "expected"),
    [
        ((0.0, 0.1), (0.5001, 0.9), 0.2, "broken"),
        ((0.0, 0.1), (0.5, 0.9), 0.2, "holds"),
        ((0.0, 0.1), (0.5, 0.9), -0.001, "weak"),
        ((0.0, 0.1), (0.5, 0.9), 0.0, "holds"),
        ((0.6, 0.9), (0.7, 0.9), 0.2, "holds"),
        ((0.6, 0.9), (0.7, 0.9), -0.1, "weak"),
        ((0.0, 0.1), (0.0, 0.1), math.nan, "holds"),
        ((0.0, 0.5), (0.0, 0.5), math.nan, "undecided"),
    ],
)
def test_the_verdict_at_the_edges_of_its_rule(near, far, high, expected):
    assert (
        Distance()._verdict(*rates(near, far), Estimate(high - 0.1, high - 0.2, high, 100))
        == expected
    )


def test_few_images_do_not_show_that_distance_says_nothing():
    near, far = rates((0.0, 0.5), (0.0, 0.5))
    assert Distance()._verdict(near, far, Estimate(-0.1, -0.51, 0.4, 10)) == "undecided"
    assert Distance()._verdict(near, far, Estimate(-0.1, -0.5, 0.4, 10)) == "holds"


def test_what_is_not_known_is_not_said():
    random = np.random.default_rng(0)
    margin, smallest, same = random.random(90), random.random(90), np.ones(90)
    broken = smallest < 0.3
    for far in (same, -smallest, smallest, margin):
        for size in (smallest, same):
            raw = Trend(far, margin, size, broken, 0)
            headline = Distance._headline(raw, Trend(same, margin, size, broken, 0))
            assert "nan" not in headline
            assert headline.endswith(".")


def test_long_features_of_sure_images_hide_the_trend():
    """Directions say how unusual an image is, lengths how sure the network is."""
    random = np.random.default_rng(0)
    angle, smallest = random.random(400), random.random(400)
    unusual = angle + 0.1 * random.random(400)
    length = 1 + 20 * smallest
    smallest = smallest - 0.5 * angle
    margin = smallest + 0.05 * random.random(400)
    raw = Trend(length * unusual, margin, smallest, smallest < 0.2, 0)
    unit = Trend(unusual, margin, smallest, smallest < 0.2, 0)
    assert raw.overall.low > 0
    assert unit.overall.high < 0
    assert raw.given(length).high < 0, "at equal length the distance has the sign of the direction"
    assert abs(unit.given_margin.value) < 0.2 < abs(unit.overall.value), "the margin explains it"


def test_distances_in_features_of_unit_length(tmp_path, grey, linear_grey, finding, truth):
    train, test = (split.images(torch.arange(len(split))) for split in (grey.train, grey.test))
    right = linear_grey(test).argmax(1) == grey.test.labels
    train, test = (nn.functional.normalize(x.flatten(1)).double() for x in (train, test[right]))
    nearest = np.sort(cdist(test.numpy(), train.numpy()), 1)
    numbers, smallest = finding.numbers, truth[1]
    expected = spearmanr(nearest[:, :5].mean(1), smallest)[0]
    assert numbers["unit_spearman"] == pytest.approx(expected, abs=1e-3)
    assert numbers["unit_spearman"] != pytest.approx(numbers["spearman"], abs=1e-3)
    claim = make_claim(linear_grey, grey, THREAT)
    one = Distance(neighbours=1).finding(claim, Run(claim, tmp_path / "one"), ExactSettings())
    assert one.numbers["unit_spearman"] == pytest.approx(
        spearmanr(nearest[:, 0], smallest)[0], abs=1e-3
    )
    with pytest.raises(InputError, match="at least one"):
        Distance(neighbours=0)
