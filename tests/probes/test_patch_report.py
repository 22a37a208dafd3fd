"""What the report of a patch names: harmless transforms, and rates with their own n."""

from __future__ import annotations

import math

import polars as pl
import torch

from scotoma.execution.run import Transform
from scotoma.probes.blindspots.patch_report import Comparison, describe
from scotoma.probes.blindspots.transformed import TransformedSet
from scotoma.results.finding import Finding
from scotoma.threat import Threat
from scotoma.training.pool import Pool
from scotoma.transforms.gamma import Gamma
from scotoma.transforms.scale_shift import ScaleShift

N = 400


def attacked(transform: Transform | None, fooled: int, wrong: int) -> TransformedSet:
    """Attack 400 images, of which `wrong` are misclassified and `fooled` of the others fooled."""
    sizes = [0.0] * wrong + [0.01] * fooled + [math.inf] * (N - wrong - fooled)
    frame = {
        "index": range(N),
        "label": [0] * N,
        "prediction": [1] * wrong + [0] * (N - wrong),
        "success": [0 < size < 1 for size in sizes],
        "linf": sizes,
    }
    every = pl.DataFrame(frame).select("index", "label", "prediction")
    return TransformedSet(
        transform, pl.DataFrame(frame)[:200], Threat("linf", 0.1), predictions=every
    )


def compared(transform: Transform | None, fooled: int, wrong: int, trained: bool) -> Comparison:
    before = attacked(transform, fooled + 50, 0)
    return Comparison("gamma", trained, before, attacked(transform, fooled, wrong))


def described(*rows: Comparison) -> Finding:
    return describe([compared(None, 10, 0, False), *rows], [ScaleShift(0.8, 0.0)], "strong")


CLOSED = compared(ScaleShift(0.8, 0.0), 20, 0, True)
HARMLESS = compared(Gamma(1.1), 40, 0, False)
HARMFUL = compared(Gamma(3.0), 90, 60, False)


def test_the_worst_change_is_a_harmless_one():
    finding = described(CLOSED, HARMLESS, HARMFUL)
    assert f"worst harmless transform that was not trained on is {Gamma(1.1)}" in finding.headline
    assert finding.numbers["worst_other_success_after"] == 40 / 200
    labels = [row["label"] for row in finding.tables["changes"]]
    assert labels[1:] == [f"{ScaleShift(0.8, 0.0)} *", str(Gamma(1.1)), f"({Gamma(3.0)})"]
    assert [row["harmless_after"] for row in finding.tables["changes"]] == [True, True, True, False]


def test_no_harmless_change_is_said():
    finding = described(CLOSED, HARMFUL)
    assert finding.headline.endswith("not trained on is shown to be harmless.")
    assert "worst_other_success_after" not in finding.numbers
    lost = described(compared(ScaleShift(0.8, 0.0), 20, 60, True), HARMLESS)
    assert "but is not shown to be harmless for the new model" in lost.headline


def test_each_rate_has_its_own_number_of_images():
    finding = described(CLOSED, HARMLESS, HARMFUL)
    numbers, row = finding.numbers, finding.tables["changes"][-1]
    assert (numbers["n"], numbers["n_accuracy"]) == (200, N)
    assert numbers["n_base_success_before"] == numbers["n_worst_trained_success_after"] == 200
    assert (row["n_accuracy"], row["n_success_before"], row["n_success_after"]) == (N, 200, 140)


def made(success: float, attacked: int) -> Finding:
    row = {"images": "generated", "n": 200, "accuracy": 0.99, "attacked": attacked}
    row |= {"accuracy_low": 0.97, "accuracy_high": 1.0}
    rates = {"success_eps": success, "success_eps_low": 0.0, "success_eps_high": 1.0}
    sets = [{"images": "the test set"}, row | rates]
    return Finding("generated", "?", "weak", ".", ".", tables={"sets": sets})


def test_generated_images_are_told_before_and_after():
    pool = Pool(torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64), "images of a flow")
    rows = [compared(None, 10, 0, False), CLOSED]
    finding = describe(rows, [], "strong", pool, (made(0.6, 190), made(0.1, 180)))
    assert "goes from 60.0% (n = 190) to 10.0% (n = 180)" in finding.headline
    assert finding.numbers["generated_success_after"] == 0.1
    assert finding.numbers["generated_success_after_high"] == 1.0
    assert finding.numbers["n_generated_success_before"] == 190
    assert "Trained on: 3 images of a flow." in finding.notes[-1]
    assert "generated" not in described(CLOSED).headline
