import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from scotoma.auditing import make_claim
from scotoma.data.dataset import ArraySplit, Dataset, from_splits
from scotoma.execution.run import Run
from scotoma.metrics.resampling import Comparison
from scotoma.probes.base import Settings
from scotoma.probes.divergence import probe as divergence
from scotoma.probes.divergence.probe import Divergence
from scotoma.probes.divergence.report import DRAWS, FAR, far_kl, headline, verdict
from scotoma.results.finding import Finding
from scotoma.results.report import public

POINTS = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("divergence") / "run"


def measure(
    folder, data: Dataset, model: nn.Module | None = None, points: int | None = POINTS
) -> Finding:
    """The finding in the pixels, the input of the model's one layer, with few draws."""
    size = math.prod(data.shape)
    model = model or nn.Sequential(nn.Flatten(), nn.Linear(size, len(data.classes)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    claim = make_claim(model, data, "linf:0.1")
    fewer = partial(divergence.divergence, draws=14)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(divergence, "divergence", fewer)
        return Divergence(points=points).finding(claim, Run(claim, folder, limit=10), Settings())


@pytest.fixture(scope="module")
def found(folder, digits) -> Finding:
    return measure(folder, digits)


def test_digits_are_drawn_from_where_the_training_set_is(found):
    numbers = found.numbers
    assert found.verdict == "holds"
    assert (numbers["training_images"], numbers["test_images"], numbers["classes"]) == (
        POINTS,
        POINTS,
        10,
    )
    assert numbers["layer"] == "input of 1"
    for name in ("kl", "knn_kl", "auc"):
        assert numbers[f"{name}_low"] <= numbers[name] <= numbers[f"{name}_high"]
        assert numbers[f"{name}_null_low"] < numbers[f"{name}_null"] < numbers[f"{name}_null_high"]
    assert numbers["kl_low"] >= 0
    assert numbers["kl_matched"] < numbers["kl_null_high"]
    assert abs(numbers["auc"] - 0.5) < 0.1
    assert abs(numbers["auc_null"] - 0.5) < 0.03


def test_the_finding_is_json_and_its_figures_draw(found):
    from scotoma.report.figures import draw

    json.dumps(public(found), allow_nan=False)
    assert [figure.name for figure in found.figures] == ["points", "classes"]
    for figure in found.figures:
        assert "no data" not in draw(figure, found)
    assert len(found.tables["points"]) == 2 * POINTS
    assert {row["set"] for row in found.tables["points"]} == {"training", "test"}


def test_the_classes_make_up_the_average(found):
    rows = found.tables["classes"]
    assert [row["class"] for row in rows] == [str(digit) for digit in range(10)]
    assert sum(row["n_test"] for row in rows) == POINTS
    for name in ("kl", "knn_kl", "kl_matched", "kl_null"):
        assert found.numbers[name] == pytest.approx(np.mean([row[name] for row in rows]), rel=1e-4)


def test_the_floor_matters_more_than_the_grid(found):
    choices = {row["choice"]: row["kl"] for row in found.tables["choices"]}
    assert choices.pop("as reported") == found.numbers["kl"]
    assert choices["nodes twice as far apart"] == pytest.approx(found.numbers["kl"], rel=0.03)
    assert found.numbers["kl"] < choices["uniform part of 1e-6"] < choices["uniform part of 1e-12"]


def test_a_second_run_computes_nothing(found, folder, digits, monkeypatch):
    monkeypatch.setattr(divergence, "embed", lambda *args, **kwargs: pytest.fail("embedded again"))
    monkeypatch.setattr(Run, "features", lambda *args, **kwargs: pytest.fail("read features again"))
    second = measure(folder, digits)
    assert second.numbers == found.numbers
    assert second.tables == found.tables


@pytest.mark.slow
def test_a_test_set_with_less_contrast_is_far(tmp_path, digits, grey):
    moved = from_splits("moved", digits.train, grey.test)
    finding = measure(tmp_path / "run", moved)
    assert finding.verdict == "broken"
    assert finding.numbers["kl_matched"] > finding.numbers["kl_null_high"]
    assert finding.numbers["knn_kl_matched"] > finding.numbers["knn_kl_null_high"]
    assert finding.numbers["auc_low"] > 0.9
    assert "far from the training data" in finding.headline


@pytest.mark.slow
def test_a_class_without_enough_images_is_left_out_and_said(tmp_path, digits):
    few = (digits.test.labels != 3) | (digits.test.labels.eq(3).cumsum(0) <= 5)
    kept = few.nonzero().squeeze(1)[:240]
    test = ArraySplit(digits.test.images(kept).numpy(), digits.test.labels[kept].numpy(), "few")
    finding = measure(tmp_path / "run", from_splits("few", digits.train, test), points=240)
    row = finding.tables["classes"][3]
    assert (row["n_test"], row["kl"], row["knn_kl_null"]) == (5, None, None)
    assert any(note.startswith("Too few images") and "3" in note for note in finding.notes)


def test_without_a_training_split_it_is_not_applicable(tmp_path, digits):
    finding = measure(tmp_path / "run", Dataset(**vars(digits) | {"train": None}))
    assert finding.verdict == "not applicable"
    assert "no training split" in finding.headline


def test_with_few_images_it_is_not_applicable(tmp_path, digits):
    finding = measure(tmp_path / "run", digits, points=50)
    assert finding.verdict == "not applicable"
    assert "No class has 20 training and 20 test images" in finding.headline


def test_features_that_are_all_the_same_are_not_applicable(tmp_path, digits):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 10))
    finding = measure(tmp_path / "run", digits, model)
    assert finding.verdict == "not applicable"
    assert "do not differ enough" in finding.headline


def compared(matched: float, null: float, highest: float, error: float = 0.01) -> Comparison:
    """A measure whose null has that mean and that highest draw."""
    return Comparison(matched, error, np.array([matched]), np.array([2 * null - highest, highest]))


NEAR_KL, NEAR_AUC = compared(0.1, 0.1, 0.12), compared(0.5, 0.5, 0.53)


@pytest.mark.parametrize(
    ("kl", "auc", "expected"),
    [
        (NEAR_KL, NEAR_AUC, "holds"),
        (compared(0.12, 0.1, 0.12), NEAR_AUC, "holds"),
        (compared(0.121, 0.1, 0.12), NEAR_AUC, "weak"),
        (compared(0.1 + far_kl(FAR) - 0.001, 0.1, 0.12), NEAR_AUC, "weak"),
        (compared(0.1 + far_kl(FAR) + 0.001, 0.1, 0.12), NEAR_AUC, "broken"),
        (compared(0.1 + far_kl(FAR) + 0.001, 0.1, 0.9), NEAR_AUC, "holds"),
        (NEAR_KL, compared(0.54, 0.5, 0.53), "weak"),
        (NEAR_KL, compared(FAR + 0.015, 0.5, 0.53), "weak"),
        (NEAR_KL, compared(FAR + 0.021, 0.5, 0.53), "broken"),
    ],
)
def test_the_verdict_at_the_edges_of_its_rule(kl, auc, expected):
    means = {"kl": kl, "knn_kl": NEAR_KL, "auc": auc}
    assert verdict(means) == expected
    assert headline(means, FAR).endswith(".")


def test_the_two_sizes_of_a_far_test_set_agree():
    """Two unit Gaussians at distance t: AUC is Phi(t / sqrt 2), K-L divergence t^2 / 2."""
    distance = math.sqrt(2) * norm.ppf(FAR)
    assert pytest.approx(distance**2 / 2, rel=1e-9) == far_kl(FAR)
    assert DRAWS == 59
