import math
from dataclasses import replace

import polars as pl
import pytest

from scotoma.attacks.fmn import FMN
from scotoma.auditing import make_claim
from scotoma.execution.run import Run, Transform
from scotoma.probes.base import Settings
from scotoma.probes.blindspots import transformed
from scotoma.probes.blindspots.transformed import (
    Scout,
    TransformedSet,
    alpha_beta,
    keeps_accuracy,
    one_a_class,
)
from scotoma.threat import Threat
from scotoma.transforms.blur import Blur
from scotoma.transforms.control import Control
from scotoma.transforms.scale_shift import ScaleShift

SHIFT = ScaleShift(0.5, 0.1)


def attacked(
    sizes: list[float],
    wrong: int = 0,
    transform: Transform | None = SHIFT,
    change: float = 0.1,
    norm: str = "linf",
) -> TransformedSet:
    """Images with these least perturbations (infinite: not found), and misclassified ones."""
    n = len(sizes) + wrong
    frame = pl.DataFrame(
        {
            "index": range(n),
            "label": [0] * n,
            "prediction": [0] * len(sizes) + [1] * wrong,
            "success": [math.isfinite(size) for size in sizes] + [False] * wrong,
            "linf": [math.nan] * n,
            norm: sizes + [0.0] * wrong,
        }
    )
    return TransformedSet(transform, frame, Threat(norm, 0.2), change)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_rates_at_both_sizes(norm: str):
    one = attacked([0.05, 0.1, 0.15, 0.25, math.inf], wrong=5, norm=norm)
    assert (one.accuracy.value, one.accuracy.n) == (0.5, 10)
    assert (one.success.value, one.success.n) == (0.6, 5)
    assert one.success_scaled.value == 0.4, "at 0.1"
    assert (one.robust.value, one.robust.n) == (0.2, 10)
    assert one.robust_scaled.value == 0.3
    still = attacked([0.05, 0.1, 0.15], transform=Blur(1.0))
    assert still.success == still.success_scaled


def test_harmless_is_one_point_of_accuracy_and_no_more():
    base = attacked([0.1] * 960, wrong=40, transform=None)
    assert attacked([0.1] * 957, wrong=43).is_harmless(base)
    assert not attacked([0.1] * 955, wrong=45).is_harmless(base), "its interval reaches 1.1 points"
    few = attacked([0.1] * 200, transform=None)
    assert not few.is_harmless(few), "200 images cannot show it"
    assert not attacked([], wrong=1000).is_harmless(attacked([], wrong=1000))
    assert keeps_accuracy(0.95, 0.96)
    assert not keeps_accuracy(0.949, 0.96)


def test_the_worst_is_the_least_robust_harmless_change_and_the_smallest_of_equals(monkeypatch):
    monkeypatch.setattr(transformed, "classified", lambda run, made: made)
    monkeypatch.setattr(transformed, "judged", lambda run, made: made)
    scout = Scout(None, Settings(), steps=1)  # type: ignore[arg-type]
    base = attacked([0.05] * 150 + [0.3] * 150, transform=None)
    weak, large, small = (
        attacked([0.05, 0.3] * 150),
        attacked([0.05] * 300, change=0.3),
        attacked([0.05] * 300, change=0.2),
    )
    harmful = attacked([0.05] * 290, wrong=10, change=0.01)
    assert scout.worst([base, weak, large, small, harmful], base) is small
    assert scout.worst([base, weak, large, small, harmful], base, ordered=True) is large
    assert scout.worst([base, weak, harmful], base) is weak
    assert scout.worst([base, harmful], base) is None


def test_the_images_broken_at_the_smaller_size():
    def indices(sizes: list[float], wrong: int = 0) -> list[int]:
        return attacked(sizes, wrong).fooled_records()["index"].to_list()

    assert indices([0.15, math.inf, 0.1, 0.05]) == [2, 3]
    assert indices([0.3, 0.15]) == [1], "at eps where none is broken at alpha·eps"
    assert indices([0.3, math.inf], wrong=1) == []


def test_the_images_shown_are_one_of_each_class_first():
    frame = pl.DataFrame({"index": [5, 1, 2, 3, 4], "label": [1, 1, 1, 0, 2]})
    assert one_a_class(frame, 4)["index"].to_list() == [3, 1, 4, 2]


def test_accuracy_is_that_of_the_predictions_where_they_are_given():
    some = attacked([0.1, 0.1])
    predictions = pl.DataFrame({"index": [0, 1, 2], "label": [0, 1, 2], "prediction": [0, 0, 0]})
    every = replace(some, predictions=predictions)
    assert (every.accuracy.n, every.success) == (3, some.success)


def test_cells_and_contrast():
    assert alpha_beta(None) == (1.0, 0.0)
    assert alpha_beta(SHIFT) == (0.5, 0.1)
    assert attacked([0.1], transform=Control(SHIFT)).contrast == 0.5
    assert (
        attacked([0.1], transform=Control(Blur(1.0))).contrast
        == attacked([0.1], transform=None).contrast
        == 1
    )


def test_the_scout_attacks_what_it_says(tmp_path, digits, linear):
    claim = make_claim(linear, digits, Threat("linf", 0.1))
    scout = Scout(Run(claim, tmp_path / "run", limit=60), Settings("fmn-linf"), steps=10)
    advanced = []
    cheap, strong, base = (
        scout.cheap(SHIFT, advanced.append),
        scout.strong(SHIFT),
        scout.strong(None),
    )
    assert advanced == [1]
    assert cheap.accuracy == strong.accuracy
    assert strong.accuracy.n == 500
    assert str(FMN(claim.threat.norm)) in set(scout.run.records["attack"])
    assert base.change == 0
    images = digits.test.images(scout.run.indices)
    assert strong.change == pytest.approx((SHIFT(images) - images).abs().mean().item(), rel=1e-5)
    assert cheap.records["backwards"].max() <= 10  # type: ignore[operator]
    assert set(scout.run.records["transform"]) == {repr(SHIFT), "none"}
