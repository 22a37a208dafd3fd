import math

import polars as pl
import pytest
import torch

from scotoma.attacks.fmn import FMN
from scotoma.auditing import make_claim
from scotoma.claim import Threat
from scotoma.execution.run import Run, Transform
from scotoma.probes.base import Settings
from scotoma.probes.blindspots.transformed import Scout, Spot, cell, worst
from scotoma.transforms.blur import Blur
from scotoma.transforms.control import Control
from scotoma.transforms.scale_shift import ScaleShift

MOVE = ScaleShift(0.5, 0.1)


def spot(
    sizes: list[float],
    wrong: int = 0,
    transform: Transform | None = MOVE,
    change: float = 0.1,
    norm: str = "linf",
) -> Spot:
    """Images with these smallest perturbations (infinite: none was found), and some that are wrong before the attack."""
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
    return Spot(transform, change, lambda: torch.zeros(0), frame, Threat(norm, 0.2))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_rates_at_both_sizes(norm: str):
    one = spot([0.05, 0.1, 0.15, 0.25, math.inf], wrong=5, norm=norm)
    assert (one.accuracy.value, one.accuracy.n) == (0.5, 10)
    assert (one.success.value, one.success.n) == (0.6, 5)
    assert one.scaled.value == 0.4, "at 0.1"
    assert (one.robust.value, one.robust.n) == (0.2, 10)
    assert one.robust_scaled.value == 0.3
    still = spot([0.05, 0.1, 0.15], transform=Blur(1.0))
    assert still.success == still.scaled


def test_harmless_is_one_point_of_accuracy_and_no_more():
    base = spot([0.1] * 96, wrong=4, transform=None)
    assert spot([0.1] * 95, wrong=5).is_harmless(base)
    assert not spot([0.1] * 94, wrong=6).is_harmless(base)
    assert not spot([], wrong=100).is_harmless(spot([0.1], wrong=99))


def test_the_worst_is_the_least_robust_harmless_change_and_the_smallest_of_equals():
    base = spot([0.05] * 50 + [0.3] * 50, transform=None)
    weak, large, small = (
        spot([0.05, 0.3] * 50),
        spot([0.05] * 100, change=0.3),
        spot([0.05] * 100, change=0.2),
    )
    harmful = spot([0.05] * 90, wrong=10, change=0.01)
    assert worst([base, weak, large, small, harmful], base) is small
    assert worst([base, weak, harmful], base) is weak
    assert worst([base, harmful], base) is None


def test_the_first_image_that_falls_at_the_smaller_size():
    fallen = spot([0.15, math.inf, 0.1, 0.05]).fallen()
    assert fallen is not None
    assert fallen["index"] == 2
    fallen = spot([0.3, 0.15]).fallen()
    assert fallen is not None
    assert fallen["index"] == 1, "at eps where none falls at alpha·eps"
    assert spot([0.3, math.inf], wrong=1).fallen() is None


def test_cells_and_contrast():
    assert cell(None) == (1.0, 0.0)
    assert cell(MOVE) == (0.5, 0.1)
    assert spot([0.1], transform=Control(MOVE)).contrast == 0.5
    assert (
        spot([0.1], transform=Control(Blur(1.0))).contrast
        == spot([0.1], transform=None).contrast
        == 1
    )


def test_the_scout_attacks_what_it_says(tmp_path, digits, linear):
    claim = make_claim(linear, digits, Threat("linf", 0.1))
    scout = Scout(claim, Run(claim, tmp_path / "run", limit=60), Settings("fmn-linf"), steps=10)
    advanced = []
    cheap, strong, base = scout.cheap(MOVE, advanced.append), scout.strong(MOVE), scout.strong(None)
    assert advanced == [1]
    assert cheap.accuracy == strong.accuracy
    assert strong.attack == FMN(claim.threat)
    assert base.change == 0
    images = digits.test.images(scout.run.indices)
    assert strong.change == pytest.approx((MOVE(images) - images).abs().mean().item(), rel=1e-5)
    assert cheap.records["backwards"].max() <= 10  # type: ignore[operator]
    assert set(scout.run.records["transform"]) == {repr(MOVE), "none"}
