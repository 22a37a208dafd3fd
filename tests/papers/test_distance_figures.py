"""Figures 1 to 5, on digits: what stands in the rows is what the models and the images give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score

from scotoma.papers.zhang2019 import figures, published
from scotoma.papers.zhang2019.figures import (
    FIFTHS,
    LENGTH,
    MEASURES,
    SPACES,
    Figure4,
    Figure5,
    SuccessOverDistance,
)
from scotoma.transforms.scale_shift import ScaleShift


class DigitsFigure1(SuccessOverDistance):
    """Figure 1 of the digits."""

    title = "Figure 1: digits"
    source = "nowhere"
    models = ("digits-pgd", "digits-other")


class DigitsFigure4(Figure4):
    """Figure 4 of the digits."""

    models = ("digits-pgd",)


class DigitsFigure5(Figure5):
    """Figure 5 of the digits."""

    models = ("digits-pgd",)


def test_success_over_distance_has_both_extractors(context):
    with context(limit=60) as here:
        rows, finding = DigitsFigure1().measure(here)
        fell = here.run("digits-pgd").records["linf"].to_numpy() <= 0.1 + 1e-6
    assert finding.verdict in ("agrees", "undecided", "contradicts")
    assert finding.numbers["extractor"] == "digits-other"
    for (model, length), key in SPACES.items():
        mine = [each for each in rows if (each["extractor"], each["features"]) == (model, length)]
        overall = next(each for each in mine if each["measure"] == "rank correlation")
        assert overall["ours"] == finding.numbers[f"{key}spearman"]
        assert overall["published"] is None
        measures = {*MEASURES, *FIFTHS, *(LENGTH if length == "as they are" else ())}
        assert {each["measure"] for each in mine if each["left"] is None} == measures
        far = next(each for each in mine if each["measure"] == "success, farthest fifth")
        assert (far["ours"], far["n"]) == (finding.numbers[f"{key}farthest_fifth_success"], 12)
        bins = [each for each in mine if each["left"] is not None]
        assert sum(each["n"] for each in bins) == 60
        assert sum(each["n"] * (each["ours"] or 0) for each in bins) == pytest.approx(
            fell.sum(), abs=0.01
        )
    agreeing = [place for place in SPACES.values() if finding.numbers[f"{place}spearman_high"] < 0]
    assert finding.numbers["checks_agree"] == len(agreeing)
    assert len(finding.tables["checks"]) == len(SPACES) == 4


@pytest.mark.parametrize(
    "place", [{(1.0, 0.0): 0.2, (0.9, 0.0): 0.1}, {(0.9, 0.0): 0.1, (1.0, 0.0): 0.2}]
)
def test_examples_are_adversarial_and_the_median_decides(context, monkeypatch, place):
    monkeypatch.setitem(published.FIGURE4, "digits", place)
    with context() as here:
        rows, finding = DigitsFigure4().measure(here)
        model = here.model("digits-pgd").module
    medians = [each["ours"] for each in rows if each["measure"] == "median L-inf distance"]
    (check,) = finding.tables["checks"]
    assert (check["lower"], check["higher"]) == (medians[1], medians[0])
    assert finding.verdict != ("contradicts" if medians[0] > medians[1] else "agrees")
    examples = [each for each in rows if "example" in each["measure"]]
    assert [each["published"] for each in examples] == list(place.values())
    inputs, adversarial = finding.images["digits"]
    with torch.no_grad():
        before, after = (
            model(torch.from_numpy(images)).argmax(1) for images in (inputs, adversarial)
        )
    assert (before != after).all()
    assert len(set(before.tolist())) == 1
    distance = abs(adversarial - inputs).max((1, 2, 3))
    assert distance.tolist() == pytest.approx([each["ours"] for each in examples], abs=1e-6)


def test_detection_is_the_auroc_of_distance(context, digits, monkeypatch):
    monkeypatch.setitem(published.FIGURE5, "digits", (0.7, 0.0))
    monkeypatch.setattr(figures, "NEIGHBOURS", 1)
    with context() as here:
        rows, finding = DigitsFigure5().measure(here)
        run = here.run("digits-pgd")
        train, test = run.features(digits.train, None), run.features(digits.test, None)
        moved = run.features(digits.test, None, transform=ScaleShift(0.7, 0.0))
    near, far = (cdist(points, train).min(1) for points in (test, moved))
    expected = roc_auc_score(np.repeat([1, 0], len(near)), np.concatenate([far, near]))
    found = {each["measure"]: each for each in rows}
    assert found["AUROC of distance"]["ours"] == pytest.approx(expected, abs=1e-4)
    assert found["median distance, transformed"]["ours"] == pytest.approx(
        np.quantile(far, 0.5, method="lower"), rel=1e-4
    )
    assert (finding.verdict == "agrees") == (
        found["AUROC of distance"]["low"] > 0.3 and found["AUROC of distance"]["high"] < 0.7
    )
    assert sum(line["share"] for line in finding.tables["digits"]) == pytest.approx(2, abs=1e-4)
