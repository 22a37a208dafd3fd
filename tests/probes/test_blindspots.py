from types import SimpleNamespace
from typing import Any

import pytest
import torch
from linear_optimum import OVERSHOOT, ExactSettings, optimum
from torch import nn

from scotoma.auditing import make_claim
from scotoma.claim import Threat
from scotoma.execution.run import Run
from scotoma.probes.base import Settings
from scotoma.probes.blindspots.grid import FASHION_SHIFTS, MNIST_SHIFTS, contrast_shifts
from scotoma.probes.blindspots.probe import BlindSpots, rise, verdict
from scotoma.probes.blindspots.transformed import contrast_shift
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.stats import Rate

THREAT = Threat("linf", 0.02)


@pytest.fixture(params=["linf", "l2"])
def threat(request) -> Threat:
    return THREAT if request.param == "linf" else Threat("l2", 0.1)


@pytest.fixture
def finding(tmp_path, grey, linear_grey, threat):
    claim = make_claim(linear_grey, grey, threat)
    return BlindSpots().finding(claim, Run(claim, tmp_path / "run"), ExactSettings())


def test_each_cell_is_what_the_transformed_images_give(finding, grey, linear_grey, threat):
    grid = finding.tables["grid"]
    assert [(row["alpha"], row["beta"]) for row in grid] == list(MNIST_SHIFTS)
    for row in grid:
        images = ScaleShift(row["alpha"], row["beta"])(grey.test.images(torch.arange(500)))
        correct = linear_grey(images).argmax(1) == grey.test.labels
        distance = optimum(linear_grey, images, grey.test.labels, threat.norm)[0][correct] * (
            1 + OVERSHOOT
        )
        assert row["n"] == 500
        assert row["accuracy"] == pytest.approx(correct.float().mean().item(), abs=1e-5)
        assert row["attacked"] == correct.sum()
        # two images in a thousand may lie on the edge, where rounding decides
        assert row["success_eps"] == pytest.approx(
            (distance <= threat.eps).float().mean().item(), abs=0.0045
        )
        assert row["success_alpha_eps"] == pytest.approx(
            (distance <= row["alpha"] * threat.eps).float().mean().item(), abs=0.0045
        )


def test_the_grid_has_the_columns_that_other_tools_read(finding):
    rates = ("accuracy", "success_eps", "success_alpha_eps")
    expected = [
        "contrast_shift",
        "alpha",
        "beta",
        "n",
        "attacked",
        *(f"{name}{end}" for name in rates for end in ("", "_low", "_high")),
    ]
    for row in finding.tables["grid"]:
        assert sorted(row) == sorted(expected)


def test_fashion_has_its_own_grid():
    assert contrast_shifts("fashion-mnist") == FASHION_SHIFTS
    assert contrast_shifts("mnist") == contrast_shifts("npz:mine.npz") == MNIST_SHIFTS
    assert contrast_shift(1.0, 0.0) is None


class Brittle(nn.Module):
    """Uses only black and white, which 0.025 cannot change on 17 levels; without black, grey."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, images):
        lifted = images.amin((1, 2, 3)) > 0.03
        return torch.where(
            lifted[:, None], self.module(images), self.module((images > 0.53).float())
        )


def test_a_model_that_is_only_brittle_after_a_contrast_shift_is_found_out(tmp_path, digits, linear):
    claim = make_claim(Brittle(linear), digits, Threat("linf", 0.025))
    finding = BlindSpots().finding(claim, Run(claim, tmp_path / "run"), Settings(attack="fmn-linf"))
    base, *others = finding.tables["grid"]
    assert base["success_eps"] == 0
    harmless = [row for row in others if row["accuracy"] >= base["accuracy"] - 0.01]
    assert max(row["success_eps"] for row in harmless) > 0.03
    assert finding.verdict == "weak"
    worst = (finding.numbers["worst_alpha"], finding.numbers["worst_beta"])
    assert worst in [(row["alpha"], row["beta"]) for row in harmless]
    assert finding.images["worst"].shape[1:] == (3, 1, 8, 8)


def attacked(eps: tuple[float, float], scaled: tuple[float, float], alpha: float = 0.9) -> Any:
    """A set with these intervals of the success rate."""

    def made(low: float, high: float) -> Rate:
        return Rate((low + high) / 2, low, high, 100)

    return SimpleNamespace(success=made(*eps), success_scaled=made(*scaled), contrast=alpha)


@pytest.mark.parametrize(
    ("base", "others", "expected"),
    [
        ((0.1, 0.2), [((0.6, 0.8), (0.5001, 0.7))], "broken"),
        ((0.1, 0.2), [((0.6, 0.8), (0.5, 0.7))], "weak"),
        ((0.1, 0.2), [((0.2001, 0.8), (0.0, 0.1))], "weak"),
        ((0.1, 0.2), [((0.2, 0.8), (0.0, 0.1))], "holds"),
        ((0.1, 0.2), [], "holds"),
        ((0.5, 0.7), [((0.9, 1.0), (0.4, 0.5))], "weak"),
        ((0.5001, 0.7), [((0.9, 1.0), (0.9, 1.0))], "not applicable"),
    ],
)
def test_the_verdict_at_the_edges_of_its_rule(base, others, expected):
    assert verdict(attacked(base, base), [attacked(*pair) for pair in others]) == expected


def test_the_headline_says_how_the_success_rate_changes():
    base = attacked((0.1, 0.2), (0.1, 0.2), alpha=1)
    assert rise(base, attacked((0.4, 0.6), (0.2, 0.4))) == (
        "the attack success rate rises from 15.0% to 30.0% of the images classified correctly at "
        "the scaled budget alpha·eps (50.0% at eps)"
    )
    assert "falls from 15.0% to 5.0%" in rise(base, attacked((0.4, 0.6), (0.0, 0.1)))
    assert rise(base, base).startswith("the attack success rate stays at 15.0% of the images")
    assert rise(base, base).endswith("correctly at eps")
