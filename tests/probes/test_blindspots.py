import polars as pl
import pytest
import torch
from torch import nn

from linear_optimum import OVERSHOOT, ExactSettings, optimum
from scotoma.auditing import make_claim
from scotoma.claim import Threat
from scotoma.execution.run import Run
from scotoma.probes.base import Settings
from scotoma.probes.blindspots.grid import FASHION_SHIFTS, MNIST_SHIFTS, contrast_shifts
from scotoma.probes.blindspots.probe import BlindSpots, Cell, move
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.stats import Rate

THREAT = Threat("linf", 0.02)


@pytest.fixture(params=["linf", "l2"])
def threat(request) -> Threat:
    return THREAT if request.param == "linf" else Threat("l2", 0.1)


@pytest.fixture
def finding(tmp_path, grey, linear_grey, threat):
    claim = make_claim(linear_grey, grey, threat)
    return BlindSpots().measure(claim, Run(claim, tmp_path / "run"), ExactSettings())


def test_each_cell_is_what_the_moved_images_give(finding, grey, linear_grey, threat):
    grid = finding.tables["grid"]
    assert [(row["alpha"], row["beta"]) for row in grid] == list(MNIST_SHIFTS)
    for row in grid:
        images = ScaleShift(row["alpha"], row["beta"])(grey.test.images(torch.arange(500)))
        right = linear_grey(images).argmax(1) == grey.test.labels
        distance = optimum(linear_grey, images, grey.test.labels, threat.norm)[0][right] * (
            1 + OVERSHOOT
        )
        assert row["n"] == 500
        assert row["accuracy"] == pytest.approx(right.float().mean().item(), abs=1e-5)
        assert row["attacked"] == right.sum()
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
        "move",
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
    assert move(1.0, 0.0) is None


class Brittle(nn.Module):
    """Sees black and white only, which no perturbation of 0.025 changes on 17 grey levels; but grey where nothing is black."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, images):
        lifted = images.amin((1, 2, 3)) > 0.03
        return torch.where(
            lifted[:, None], self.module(images), self.module((images > 0.53).float())
        )


def test_a_model_that_is_only_brittle_after_a_move_is_found_out(tmp_path, digits, linear):
    claim = make_claim(Brittle(linear), digits, Threat("linf", 0.025))
    finding = BlindSpots().measure(claim, Run(claim, tmp_path / "run"), Settings(attack="fmn-linf"))
    base, *moved = finding.tables["grid"]
    assert base["success_eps"] == 0
    harmless = [row for row in moved if row["accuracy"] >= base["accuracy"] - 0.01]
    assert max(row["success_eps"] for row in harmless) > 0.03
    assert finding.verdict == "weak"
    worst = (finding.numbers["worst_alpha"], finding.numbers["worst_beta"])
    assert worst in [(row["alpha"], row["beta"]) for row in harmless]
    assert finding.images["worst"].shape[1:] == (3, 1, 8, 8)


def cell(
    accuracy: float,
    eps: tuple[float, float],
    scaled: tuple[float, float],
    n: int = 100,
    alpha: float = 0.9,
) -> Cell:
    def made(low: float, high: float) -> Rate:
        return Rate((low + high) / 2, low, high, n)

    return Cell(
        alpha,
        0.0,
        lambda: None,  # type: ignore[arg-type]
        pl.DataFrame(),
        Rate(accuracy, 0, 1, 100),
        made(*eps),
        made(*scaled),
    )


@pytest.mark.parametrize(
    ("base", "moved", "expected"),
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
def test_the_verdict_at_the_edges_of_its_rule(base, moved, expected):
    cells = [cell(0.98, *pair) for pair in moved]
    assert BlindSpots._verdict(cell(0.98, base, base), cells) == expected


def test_harmless_is_one_point_of_accuracy_and_no_more():
    for hundredths in range(2, 101):
        base = cell(hundredths / 100, (0, 1), (0, 1))
        assert BlindSpots._is_harmless(cell((hundredths - 1) / 100, (0, 1), (0, 1)), base)
        assert not BlindSpots._is_harmless(cell((hundredths - 1.1) / 100, (0, 1), (0, 1)), base)
    assert not BlindSpots._is_harmless(cell(0, (0, 1), (0, 1), n=0), cell(0.01, (0, 1), (0, 1)))
