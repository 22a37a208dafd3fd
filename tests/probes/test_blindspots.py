from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from contrast_hole import Hole, QuickSettings, quadrants
from linear_optimum import OVERSHOOT, ExactSettings, optimum
from torch import Tensor, nn

from centroids import centroids
from scotoma.auditing import make_claim
from scotoma.data.dataset import ArraySplit, from_splits
from scotoma.execution.effort import Effort
from scotoma.execution.run import Run
from scotoma.models.loading import load_model
from scotoma.probes.base import Settings
from scotoma.probes.blindspots import probe, transformed
from scotoma.probes.blindspots.definition import HARMLESS
from scotoma.probes.blindspots.grid import FASHION_SHIFTS, MNIST_SHIFTS, contrast_shifts
from scotoma.probes.blindspots.map import BlindSpotMap
from scotoma.probes.blindspots.probe import BlindSpots, rise
from scotoma.probes.blindspots.transformed import TransformedSet, contrast_shift
from scotoma.probes.blindspots.verdict import verdict
from scotoma.threat import Threat
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.stats import Rate

THREAT = Threat("linf", 0.02)


@pytest.fixture(scope="module", params=["linf", "l2"])
def threat(request) -> Threat:
    return THREAT if request.param == "linf" else Threat("l2", 0.1)


def without_oracle(patch: pytest.MonkeyPatch) -> None:
    for module in (probe, transformed):
        patch.setattr(module, "oracle_for", lambda run: None)


@pytest.fixture
def unjudged(monkeypatch):
    """No oracle, so that all images count."""
    without_oracle(monkeypatch)


@pytest.fixture(scope="module")
def linear_grey(grey) -> nn.Sequential:
    return centroids(grey)


@pytest.fixture(scope="module")
def finding(tmp_path_factory, grey, linear_grey, threat):
    claim = make_claim(linear_grey, grey, threat)
    with pytest.MonkeyPatch.context() as patch:
        without_oracle(patch)
        run = Run(claim, tmp_path_factory.mktemp("run"))
        return BlindSpots().finding(claim, run, ExactSettings())


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
        if row["cost_low"] > HARMLESS:
            assert row["attacked"] == 0
            continue
        assert row["attacked"] == correct.sum()
        # two images in a thousand may lie on the edge, where rounding decides
        assert row["success_eps"] == pytest.approx(
            (distance <= threat.eps).float().mean().item(), abs=0.0045
        )
        assert row["success_alpha_eps"] == pytest.approx(
            (distance <= row["alpha"] * threat.eps).float().mean().item(), abs=0.0045
        )


def test_the_grid_has_the_columns_that_other_tools_read(finding):
    rates = ("accuracy", "success_eps", "success_alpha_eps", "cost", "rejected", "fall")
    expected = [
        "label",
        "harmless",
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
    gentle = contrast_shifts("npz:mine.npz", (3, 32, 32))
    assert gentle == contrast_shifts("cifar-10", (3, 32, 32))
    assert len(gentle) == len(MNIST_SHIFTS)
    assert min(alpha for alpha, _ in gentle) > min(alpha for alpha, _ in MNIST_SHIFTS)
    assert contrast_shifts("folder:photographs", (3, 224, 224)) == MNIST_SHIFTS
    assert contrast_shift(1.0, 0.0) is None


class Standard(nn.Module):
    """Standardises each image first, so that no change of contrast or brightness reaches it."""

    def __init__(self, network: nn.Module, images: Tensor):
        super().__init__()
        self.network, self.mean = network, float(images.mean())
        self.deviation = float(images.flatten(1).std(1).mean())

    def forward(self, images: Tensor) -> Tensor:
        centred = images - images.mean((1, 2, 3), keepdim=True)
        spread = centred.square().mean((1, 2, 3), keepdim=True).sqrt() + 1e-6
        return self.network(centred / spread * self.deviation + self.mean)


def test_a_network_that_cannot_see_contrast_holds(tmp_path, digits, digits_model, unjudged):
    network = load_model(str(digits_model)).module
    model = Standard(network, digits.test.images(torch.arange(200)))
    claim = make_claim(model, digits, Threat("linf", 0.1))
    run = Run(claim, tmp_path / "run", limit=40)
    finding = BlindSpots().finding(claim, run, QuickSettings())
    base, *others = finding.tables["grid"]
    assert all(row["harmless"] and row["cost"] == 0 for row in others)
    assert max(row["success_eps"] for row in others) > base["success_eps"] + 0.2
    assert finding.verdict == "holds"
    plane = BlindSpotMap(("scale-shift",), resolution=1, rounds=0, steps=10, composed=0)
    assert plane.finding(claim, run, QuickSettings()).verdict == "holds"


@pytest.mark.parametrize(
    ("depth", "verdict"), [pytest.param(8.0, "weak", marks=pytest.mark.slow), (15.0, "broken")]
)
def test_a_hole_in_the_grid_is_found(tmp_path, depth: float, verdict: str):
    hole, eps = Hole(depth, centre=(0.7, 0.0)), 0.005
    claim = make_claim(hole, quadrants(0.01, 400), Threat("linf", eps))
    run = Run(claim, tmp_path / "run", limit=80)
    finding = BlindSpots().finding(claim, run, QuickSettings())
    assert finding.verdict == verdict
    assert finding.numbers["worst_success_alpha_eps"] == pytest.approx(
        (hole.falls(0.7, 0.0, eps) - 0.01) / 0.49, abs=0.11
    )
    assert (finding.numbers["worst_alpha"], finding.numbers["worst_beta"]) == (0.7, 0.0)
    assert finding.images["worst"].shape[1:] == (3, 1, 16, 16)


def test_a_harmful_shift_is_not_attacked(tmp_path):
    """Where black and white are less than 0.3 apart the model says 0, and half are lost."""

    class Faded(Hole):
        def forward(self, images: Tensor) -> Tensor:
            lost = images.flatten(1).amax(1) - images.flatten(1).amin(1) < 0.3
            return torch.where(lost[:, None], torch.eye(2)[0], super().forward(images))

    claim = make_claim(Faded(0.0), quadrants(0.01, 400), Threat("linf", 0.005))
    run = Run(claim, tmp_path / "run", limit=40)
    finding = BlindSpots().finding(claim, run, QuickSettings())
    rows = {row["contrast_shift"]: row for row in finding.tables["grid"]}
    assert rows["0.8, 0"]["attacked"] == 40
    assert rows["0.7, 0"]["attacked"] == 0
    assert rows["0.7, 0"]["accuracy"] < 0.6
    assert not rows["0.7, 0"]["harmless"]
    assert rows["0.7, 0"]["success_eps"] is None


def test_a_slow_model_is_attacked_where_it_can_decide_something(tmp_path):
    slow, notes = BlindSpots().within(Effort(0.25))
    assert notes == [
        "contrast shifts are attacked if enough test images can show that they are harmless"
    ]
    assert BlindSpots().within(Effort(1.0)) == (BlindSpots(), [])
    for n, attacked in ((100, 0), (400, 20)):
        claim = make_claim(Hole(0.0), quadrants(0.01, n), Threat("linf", 0.005))
        run = Run(claim, tmp_path / f"{n}", limit=20)
        finding = slow.finding(claim, run, Settings(attack="ifgsm"))
        base, *others = finding.tables["grid"]
        assert base["attacked"] == 20
        assert {row["attacked"] for row in others} == {attacked}
        assert (finding.verdict == "undecided") == (n == 100)


def attacked(eps: float, scaled: float, transform: ScaleShift | None = None) -> TransformedSet:
    """A thousand images of which these shares, the same images first, are fooled."""
    sizes = np.full(1000, np.inf)
    sizes[: round(1000 * eps)] = 0.19
    sizes[: round(1000 * scaled)] = 0.05
    columns = {"index": range(1000), "label": [0] * 1000, "prediction": [0] * 1000}
    frame = pl.DataFrame({**columns, "success": np.isfinite(sizes), "linf": sizes})
    return TransformedSet(transform, frame, Threat("linf", 0.2))


@pytest.mark.parametrize(
    ("base", "scaled", "expected"),
    [
        (0.1, [0.1, 0.56], "broken"),
        (0.1, [0.5], "weak"),
        (0.1, [0.1, 0.25], "weak"),
        (0.1, [0.2], "holds"),  # it falls by ten points, and by eight at the end of its interval
        (0.1, [0.05], "holds"),
        (0.1, [], "undecided"),
        (0.47, [0.53], "holds"),
        (0.6, [1.0], "not applicable"),
    ],
)
def test_the_verdict_at_the_edges_of_its_rule(base: float, scaled: list[float], expected: str):
    shift = ScaleShift(0.5, 0.0)
    assert verdict(attacked(base, 0), [attacked(1.0, each, shift) for each in scaled]) == expected


def shown(success: float, scaled: float, alpha: float) -> Any:
    def rate(value: float) -> Rate:
        return Rate(value, 0, 1, 100)

    return SimpleNamespace(success=rate(success), success_scaled=rate(scaled), contrast=alpha)


def test_the_headline_says_how_the_success_rate_changes():
    base = shown(0.15, 0.15, alpha=1)
    assert rise(base, shown(0.5, 0.3, 0.9)) == (
        "the attack success rate rises from 15.0% to 30.0% of correctly classified images at "
        "the scaled budget alpha·eps (50.0% at eps)"
    )
    assert "falls from 15.0% to 5.0%" in rise(base, shown(0.5, 0.05, 0.9))
    assert rise(base, base).startswith("the attack success rate stays at 15.0% of correctly")
    assert rise(base, base).endswith("correctly classified images at eps")


def test_images_that_the_oracle_rejects_do_not_count(tmp_path, monkeypatch):
    class Oracle:
        calibration = "It rejects 0% of real test images."

        def judge(self, images: Tensor, labels: Tensor) -> Any:
            dark = images.amin((1, 2, 3)) < 0.4  # that of alpha 0.7 is lighter, others are not
            return SimpleNamespace(valid=dark | (labels == 1))

    for module in (probe, transformed):
        monkeypatch.setattr(module, "oracle_for", lambda run: Oracle())
    claim = make_claim(Hole(15.0, centre=(0.7, 0.0)), quadrants(0.01, 400), Threat("linf", 0.005))
    run = Run(claim, tmp_path / "run", limit=40)
    finding = BlindSpots().finding(claim, run, QuickSettings())
    rows = {row["contrast_shift"]: row for row in finding.tables["grid"]}
    assert rows["1, 0"]["rejected"] is None
    assert rows["0.9, 0"]["rejected"] == 0
    half = rows["0.8, 0.1"]["rejected"]
    assert rows["0.8, 0.1"]["attacked"] == round(40 * (1 - half)) < 40
    assert finding.numbers["harmless"] < 6, "where half is rejected, the shift is not valid"


def test_an_oracle_that_rejects_many_real_images_judges_changes_all_the_same(tmp_path, monkeypatch):
    class Oracle:
        """Rejects images whose mark is almost black or white, whatever their contrast."""

        calibration = "It rejects a sixth of real test images."

        def judge(self, images: Tensor, labels: Tensor) -> Any:
            black, white, mark = images[:, 0, 0, 0], images[:, 0, 0, 8], images[:, 0, 8, 0]
            return SimpleNamespace(valid=((mark - black) / (white - black) - 0.5).abs() < 0.42)

    for module in (probe, transformed):
        monkeypatch.setattr(module, "oracle_for", lambda run: Oracle())
    data = quadrants(0.01, 400)
    claim = make_claim(Hole(15.0, centre=(0.7, 0.0)), data, Threat("linf", 0.005))
    run = Run(claim, tmp_path / "run", limit=40)
    real = data.test.images(run.indices)
    assert 0.05 < 1 - Oracle().judge(real, torch.zeros(40)).valid.float().mean() < 0.3
    finding = BlindSpots().finding(claim, run, QuickSettings())
    rows = finding.tables["grid"]
    assert all(row["rejected"] == 0 for row in rows[1:])
    assert all(row["attacked"] == rows[0]["attacked"] for row in rows[1:])
    assert (finding.verdict, finding.numbers["worst_alpha"]) == ("broken", 0.7)


def test_it_says_so_if_no_image_is_valid_after_any_shift(tmp_path, monkeypatch):
    class Oracle:
        """Accepts real images alone."""

        calibration = "It rejects 0% of real test images."

        def judge(self, images: Tensor, labels: Tensor) -> Any:
            real = data.test.images(torch.arange(400)).flatten(1)
            return SimpleNamespace(valid=(torch.cdist(images.flatten(1), real) < 1e-6).any(1))

    for module in (probe, transformed):
        monkeypatch.setattr(module, "oracle_for", lambda run: Oracle())
    data = quadrants(0.01, 400)
    claim = make_claim(Hole(0.0), data, Threat("linf", 0.005))
    run = Run(claim, tmp_path / "run", limit=40)
    finding = BlindSpots().finding(claim, run, QuickSettings())
    assert finding.verdict == "undecided"
    assert "after each, the validity oracle rejects more than 5% of the images" in finding.headline


class Redness(nn.Module):
    """Compares two halves of the green channel; red images also use the blue one, no evidence."""

    def forward(self, images: Tensor) -> Tensor:
        red, green, blue = images.unbind(1)
        left, right = green[..., :34].mean((1, 2)), green[..., 34:].mean((1, 2))
        reddish = torch.sigmoid(100 * (red.mean((1, 2)) - left - 0.05))
        position = right - left + 15 * reddish * (blue[..., 34:] - blue[..., :34]).mean((1, 2))
        return torch.stack([-position, position], 1)


@pytest.mark.parametrize(("fooled", "expected"), [(0, "holds"), (4, "undecided"), (16, "weak")])
def test_a_fall_that_twenty_images_do_not_show_is_undecided(fooled: int, expected: str):
    def of(shift: ScaleShift | None, n: int) -> TransformedSet:
        columns = {"index": range(20), "label": [0] * 20, "prediction": [0] * 20}
        sizes = np.where(np.arange(20) < n, 0.05, np.inf)
        frame = pl.DataFrame({**columns, "success": np.isfinite(sizes), "linf": sizes})
        return TransformedSet(shift, frame, Threat("linf", 0.2))

    shifts = [of(ScaleShift(0.9, 0.01 * i), fooled if i == 3 else 0) for i in range(10)]
    assert verdict(of(None, 0), shifts) == expected


def test_photographs_are_tinted(tmp_path, unjudged):
    labels = np.arange(400) % 2
    images = np.full((400, 3, 68, 68), 0.5, np.float32)
    share = np.linspace(0.004, 0.2, 400) * np.where(labels, 1, -1)
    images[:, 1, :, 34:] += share[:, None, None].astype(np.float32)
    data = from_splits("photographs", None, ArraySplit(images, labels, "photographs"))
    claim = make_claim(Redness(), data, Threat("linf", 0.005))
    finding = BlindSpots().finding(
        claim, Run(claim, tmp_path / "run", limit=60), Settings(attack="fgsm")
    )
    rows = {row["contrast_shift"]: row for row in finding.tables["grid"]}
    assert len(rows) == len(MNIST_SHIFTS) + 6
    assert finding.verdict == "broken"
    assert "After a harmless tint (+0.1, +0, +0; accuracy 100.0%) the attack" in finding.headline
    assert rows["tint -0.1, +0, +0"]["success_eps"] == pytest.approx(0.01 / 0.2, abs=0.06)
    assert rows["tint +0.1, +0, +0"]["success_eps"] == pytest.approx(0.16 / 0.2, abs=0.12)
    assert "and after tints of one colour channel" in finding.figures[0].caption
