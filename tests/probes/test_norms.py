"""The norms probe: a linear model with known minima in three norms, masked models, a network."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from masked_models import QuantisedInput, Temperature
from torch import Tensor, nn

import scotoma
from scotoma.auditing import make_claim
from scotoma.data.dataset import ArraySplit, Dataset, from_splits
from scotoma.execution.effort import Effort
from scotoma.execution.run import Run
from scotoma.models.layers import Binarise
from scotoma.models.loading import load_model
from scotoma.models.synthesis import AnalysisBySynthesis
from scotoma.models.vae import ClassVAEs
from scotoma.probes.base import Settings
from scotoma.probes.norms.analysis import AttackRecords, Kind, NormAnalysis
from scotoma.probes.norms.bounds import bounds, read_bounds
from scotoma.probes.norms.figures import amount
from scotoma.probes.norms.gradients import PASSES
from scotoma.probes.norms.probe import ATTACKS, Norms
from scotoma.report.publishing import draw
from scotoma.results.finding import Finding
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.stats import median, rate

CLAIM = Threat("linf", 0.1)
FEW = {"l0": ("vfga",), "l2": ("deepfool",), "linf": ("fmn-linf",)}
"""Exact on a linear model, or nearly, and quick."""
FEWER = Norms(
    {
        "l0": ("vfga", "salt-pepper"),
        "l2": ("ddn", "boundary", "gaussian-noise"),
        "linf": ("fmn-linf", "hop-skip-jump"),
    },
    queries=200,
)
"""Attacks of either kind in each norm, without the slowest."""
SIDE, WRONG = 8, 4
SIZES = torch.linspace(0.02, 0.2, 46)


def weights() -> Tensor:
    return torch.randn(SIDE * SIDE, generator=torch.Generator().manual_seed(0))


class Linear(nn.Module):
    """Two classes on either side of grey."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(weights(), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        logit = (images - 0.5).flatten(1) @ self.weight
        return torch.stack([-logit, logit], 1)


@pytest.fixture(scope="module")
def around_grey() -> Dataset:
    """Grey images shifted by `SIZES` along the weights' signs; the first `WRONG` mislabelled."""
    labels = torch.arange(len(SIZES)) % 2
    images = 0.5 + SIZES[:, None] * (2 * labels[:, None] - 1) * weights().sign()
    labels[:WRONG] = 1 - labels[:WRONG]
    split = ArraySplit(images.view(-1, 1, SIDE, SIDE).numpy(), labels.numpy(), "around grey")
    return from_splits("around grey", None, split)


def truth(norm: str) -> np.ndarray:
    """The smallest perturbation of each of these images, 0 where the model is wrong."""
    steep = weights().abs().sort(descending=True).values.double()
    if norm == "linf":
        sizes = SIZES.double()
    elif norm == "l2":
        sizes = SIZES.double() * steep.sum() / steep.norm()
    else:  # the steepest pixels go all the way to black or white
        gains = (0.5 + SIZES.double()[:, None]) * steep.cumsum(0)
        sizes = (gains < SIZES.double()[:, None] * steep.sum()).sum(1) + 1.0
    sizes[:WRONG] = 0
    return sizes.numpy()


@pytest.fixture
def measure(tmp_path):
    def measure(
        data,
        model,
        probe: Norms | None = None,
        settings: Settings | None = None,
        limit: int | None = None,
    ) -> Finding:
        claim = make_claim(model, data, CLAIM)
        settings = settings or Settings("fmn-linf")
        return (probe or Norms(queries=300)).finding(
            claim, Run(claim, tmp_path / "run", limit=limit), settings
        )

    return measure


def test_a_linear_model_has_the_medians_and_accuracies_that_it_must_have(measure, around_grey):
    between = {"l0": 6, "l2": float(np.mean(np.sort(truth("l2"))[24:26])), "linf": CLAIM.eps}
    attacks = {
        "l0": ("vfga", "pointwise"),
        "l2": ("deepfool", "boundary"),
        "linf": ("fmn-linf", "hop-skip-jump"),
    }
    probe = Norms(attacks, ["l0:6", Threat("l2", between["l2"])], queries=100)
    finding = measure(around_grey, Linear(), probe)
    numbers = finding.numbers
    assert numbers["n"] == len(SIZES)
    assert numbers["attacked"] == len(SIZES) - WRONG
    for norm, bound in between.items():
        assert numbers["bounds"][norm] == pytest.approx(bound)
        known = truth(norm)
        assert numbers[f"median_{norm}"] == pytest.approx(
            median(known).value, rel=0 if norm == "l0" else 0.01
        )
        expected = rate(known > bound)
        assert 0 < expected.value < 0.6
        assert numbers[f"accuracy_{norm}"] == pytest.approx(expected.value, abs=1e-6)
        assert numbers[f"accuracy_{norm}_low"] == pytest.approx(expected.low, abs=1e-6)
        assert numbers[f"accuracy_{norm}_high"] == pytest.approx(expected.high, abs=1e-6)
        assert numbers[f"masked_{norm}"] is False
        curve = [row for row in finding.tables[f"curve_{norm}"] if row["attacks"] == "all attacks"]
        assert curve[0]["accuracy"] == pytest.approx((known > 0).mean(), abs=1e-6)
        assert curve[-1]["distance"] >= 2 * bound * (1 - 1e-5) or norm == "linf"
        for row in curve:
            if norm == "l0" or (np.abs(known - row["distance"]) > 0.01 * known).all():
                assert row["accuracy"] == pytest.approx((known > row["distance"]).mean(), abs=1e-6)


def test_every_attack_has_its_row(measure, around_grey):
    finding = measure(around_grey, Linear(), Norms(queries=60), Settings("min-linf"), 20)
    rows = {(row["norm"], row["attack"]): row for row in finding.tables["attacks"]}
    assert list(rows) == [
        (norm, name)
        for norm, names in ATTACKS.items()
        for name in names
        if name != "latent-descent"
    ]
    for (norm, name), row in rows.items():
        decision = name in (
            "pointwise",
            "salt-pepper",
            "boundary",
            "gaussian-noise",
            "contrast",
            "hop-skip-jump",
        )
        assert row["kind"] == ("decision" if decision else "gradient")
        assert (row["backwards_per_image"] == 0) == decision
        assert row["forwards_per_image"] > 0
        assert row["median"] is None or row["median"] >= finding.numbers[f"median_{norm}"]
        assert row["accuracy"] >= finding.numbers[f"accuracy_{norm}"]
    for norm in ATTACKS:
        assert sum(
            row["found_minimum"] for row in rows.values() if row["norm"] == norm
        ) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("l0", "l2", "verdict", "says"),
    [
        (
            1,
            0.05,
            "holds",
            "The claim of L-inf 0.1 extends to L0 and L2: the median perturbation changes",
        ),
        (
            60,
            0.05,
            "broken",
            "The claim of L-inf 0.1 does not extend to L0: the median perturbation changes",
        ),
        (60, 5, "broken", "does not extend to L0 and L2: the median perturbation changes"),
        (1, 5, "broken", "does not extend to L2: the median perturbation has size L2"),
        (4, 0.05, "weak", "extends only in part to L0"),
    ],
)
def test_the_verdict_is_of_the_worst_other_norm(measure, around_grey, l0, l2, verdict, says):
    finding = measure(around_grey, Linear(), Norms(FEW, (Threat("l0", l0), Threat("l2", l2))))
    assert finding.verdict == verdict
    assert says in finding.headline
    success = {row["norm"]: row["success"] for row in finding.tables["norms"]}
    assert success["l0"] == pytest.approx((truth("l0")[WRONG:] <= l0).mean(), abs=1e-5)
    assert success["l2"] == pytest.approx((truth("l2")[WRONG:] <= l2).mean(), abs=1e-5)
    left = rate(truth("l2") > l2)
    told = (
        f"robust accuracy at L2 {l2} is {left.value:.1%} of audited images ({100 * left.low:.1f}–"
    )
    assert (told in finding.headline) == ("L2" in says)


def test_a_model_that_is_never_right(measure, around_grey):
    class Wrong(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return -super().forward(images)

    swapped = ArraySplit(
        around_grey.test.images(torch.arange(9, 20)).numpy(),
        around_grey.test.labels[9:20].numpy(),
        "few",
    )
    finding = measure(from_splits("few", None, swapped), Wrong(), Norms(FEW))
    assert finding.verdict == "not applicable"
    assert "classifies none" in finding.headline
    for norm in FEW:
        assert finding.numbers[f"median_{norm}"] == 0
        assert finding.numbers[f"accuracy_{norm}"] == 0
    assert finding.images == {}
    assert [row["found_minimum"] for row in finding.tables["attacks"]] == [None] * 3


def test_nothing_breaks_a_model_that_answers_by_heart(measure, around_grey, tmp_path):
    class Known(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (
                torch.tensor([[1.0, 0.0]]).repeat(len(images), 1)
                + 0 * images.mean((1, 2, 3))[:, None]
            )

    finding = measure(around_grey, Known(), Norms(FEW))
    right = int((around_grey.test.labels == 0).sum())
    assert finding.numbers["attacked"] == right
    assert finding.numbers["accuracy_l2"] == pytest.approx(right / len(SIZES), abs=1e-5)
    assert finding.images == {}
    assert any("neither BPDA nor differences of logits" in note for note in finding.notes)
    zeros = ArraySplit(
        around_grey.test.images(torch.arange(9)).numpy(), np.zeros(9, dtype=np.int64), "zeros"
    )
    claim = make_claim(Known(), replace(around_grey, test=zeros, sha256="zeros"), CLAIM)
    finding = Norms(FEW).finding(claim, Run(claim, tmp_path / "zeros"), Settings("fmn-linf"))
    assert [finding.numbers[f"median_{norm}"] for norm in FEW] == [None] * 3
    assert "no attack fools half of the images" in finding.headline


class Leaky(nn.Module):
    """Few grey levels and a leak of the opposite sign: a nonzero gradient that leads away."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = QuantisedInput(model)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images) - 1e-3 * self.model.model(images)


class Thresholded(nn.Sequential):
    """A linear model of black and white, which says that it needs BPDA."""

    def __init__(self):
        super().__init__(Binarise(), Linear())


class Guessing(Linear):
    """Needs estimated gradients, it says."""

    gradient = "estimate"


def gradients(finding: Finding) -> dict[tuple[str, str | None], set[str | None]]:
    """Of the attacks, by kind and norm."""
    found: dict[tuple[str, str | None], set[str | None]] = {}
    for row in finding.tables["attacks"]:
        found.setdefault((row["kind"], row["norm"]), set()).add(row["gradient"])
    return found


@pytest.mark.slow
def test_gradients_that_lead_elsewhere_are_named(measure, digits, digits_model):
    finding = measure(digits, Leaky(load_model(str(digits_model)).module), FEWER, limit=10)
    for row in finding.tables["masking"]:
        assert row["gradient"] == "exact"
        assert row["masked"]
        assert row["decision_nearer_low"] > 0.5
        assert (
            row["gradient_median"] is None or row["decision_median"] < 0.9 * row["gradient_median"]
        )
        assert finding.numbers[f"decision_nearer_{row['norm']}"] == row["decision_nearer"]
    assert [row["norm"] for row in finding.tables["masking"]] == ["l0", "l2", "linf"]
    assert len(re.findall("its gradients mislead attacks", finding.headline)) == 3


@pytest.mark.slow
def test_steps_that_hide_the_gradient_are_crossed_by_bpda(measure, digits, digits_model):
    model = QuantisedInput(load_model(str(digits_model)).module)
    finding = measure(digits, model, FEWER, limit=10)
    for norm in ("l0", "l2", "linf"):
        assert gradients(finding)["gradient", norm] == {"bpda"}
        assert gradients(finding)["decision", norm] == {None}
    assert gradients(finding)["the audit's own", "linf"] == {"exact"}
    rows = {(row["attack"], row["gradient"]): row for row in finding.tables["attacks"]}
    assert (rows["fmn-linf", "exact"]["median"], rows["fmn-linf", "exact"]["accuracy"]) == (None, 1)
    assert 0.05 < rows["fmn-linf", "bpda"]["median"] < 0.5
    assert [(row["gradient"], row["masked"]) for row in finding.tables["masking"]] == [
        ("bpda", False)
    ] * 3
    assert sum("zero for all" in note and "(BPDA)" in note for note in finding.notes) == 1


@pytest.mark.slow
def test_what_is_closed_to_bpda_is_estimated_within_the_queries(measure, digits, digits_model):
    model = QuantisedInput(load_model(str(digits_model)).module)
    traced = torch.jit.trace(model, torch.zeros(1, 1, 8, 8))
    probe = Norms({"l2": ("ddn",), "linf": ("fmn-linf", "min-linf")}, queries=30 * PASSES)
    finding = measure(digits, traced, probe, Settings("square"), limit=2)
    for row in finding.tables["attacks"]:
        if row["kind"] == "gradient":
            assert row["gradient"] == "estimate"
            assert row["backwards_per_image"] == 0
            order = (
                4 * 40 if row["attack"] == "min-linf" else 0
            )  # nine gradients to put classes in order count as five steps
            assert 15 * PASSES < row["forwards_per_image"] <= 30 * PASSES + 40 + order
            assert row["median"] is not None
    assert gradients(finding)["the audit's own", "linf"] == {None}
    assert any("differences of logits" in note for note in finding.notes)
    assert "Gradient-based attacks took at most 30 steps." in finding.notes


@pytest.mark.parametrize("model", [Linear(), nn.Sequential(nn.Identity(), Thresholded())])
def test_a_slow_model_is_attacked_by_noise_only_without_exact_gradients(
    measure, around_grey, model
):
    slow, notes = Norms().within(Effort(0.25))
    assert "no attacks by noise if gradients are exact" in notes
    noisy = ("salt-pepper", "gaussian-noise")
    probe = Norms(FEW | {"l0": ("vfga", "salt-pepper"), "l2": ("deepfool", noisy[1])}, draws=2)
    assert (probe.noise, slow.noise) == (True, False)
    finding = measure(around_grey, model, replace(probe, noise=slow.noise))
    exact = isinstance(model, Linear)
    assert set(noisy).isdisjoint(row["attack"] for row in finding.tables["attacks"]) == exact


@pytest.mark.parametrize(("model", "gradient"), [(Thresholded(), "bpda"), (Guessing(), "estimate")])
def test_a_model_says_which_gradients_it_needs(measure, around_grey, model, gradient, monkeypatch):
    monkeypatch.setattr(Run, "map_images", lambda *_: pytest.fail("measured what was said"))
    finding = measure(around_grey, nn.Sequential(nn.Identity(), model), Norms(FEW))
    for norm in FEW:
        assert gradients(finding)["gradient", norm] == {gradient}
    assert (
        sum(
            note.startswith("The model declares that its logits have no useful gradient")
            for note in finding.notes
        )
        == 1
    )


def test_binarised_images_are_only_moved_to_the_threshold(measure, around_grey):
    """In L2 each pixel that must cross moves as far as the threshold, and no other pixel moves."""
    finding = measure(around_grey, Thresholded(), Norms(FEW))
    steep = weights().abs().sort(descending=True).values.double()
    needed = int((2 * steep.cumsum(0) < steep.sum()).sum()) + 1
    expected = (SIZES.double() * needed**0.5).numpy()
    expected[:WRONG] = 0
    assert finding.numbers["median_l2"] == pytest.approx(median(expected).value, rel=0.1)
    assert finding.numbers["median_l2"] >= 0.999 * median(expected).value
    assert finding.numbers["median_l0"] == needed
    assert finding.numbers["median_linf"] == pytest.approx(median(truth("linf")).value, rel=0.05)


def test_steps_bound_what_gradient_attacks_cost(measure, around_grey):
    finding = measure(around_grey, Linear(), Norms(FEW, steps=5), Settings("square"), 10)
    for row in finding.tables["attacks"]:
        assert row["kind"] != "gradient" or row["backwards_per_image"] <= 5
    assert "Gradient-based attacks took at most 5 steps." in finding.notes


@pytest.mark.slow
def test_binary_synthesis_is_walked_across_the_threshold(measure, digits):
    torch.manual_seed(0)
    model = AnalysisBySynthesis(ClassVAEs((1, 8, 8), 10), binary=True, samples=10, steps=2).eval()
    images = digits.test.images(torch.arange(12))
    labels = model(images).argmax(1)
    assert len(labels.unique()) > 1
    split = ArraySplit(images.numpy(), labels.numpy(), "synthesised")
    data = replace(digits, test=split, name="synthesised", sha256="synthesised")
    finding = measure(data, model, Norms({"l2": ("latent-descent", "fmn-l2")}, steps=2), limit=2)
    rows = {row["attack"]: row for row in finding.tables["attacks"] if row["norm"] == "l2"}
    assert (rows["latent-descent"]["kind"], rows["latent-descent"]["gradient"]) == (
        "decision",
        None,
    )
    assert rows["latent-descent"]["median"] > 0
    assert rows["fmn-l2"]["gradient"] == "bpda"
    assert rows["fmn-l2"]["backwards_per_image"] > 0


@pytest.mark.slow
def test_large_logits_hide_nothing_from_attacks_on_the_margin(measure, digits, digits_model):
    finding = measure(digits, Temperature(load_model(str(digits_model)).module), FEWER, limit=10)
    assert [row["masked"] for row in finding.tables["masking"]] == [False] * 3
    assert "mislead" not in finding.headline


@pytest.fixture(scope="module")
def report(tmp_path_factory, digits_model):
    out = tmp_path_factory.mktemp("norms") / "run"
    return scotoma.audit(
        str(digits_model),
        "digits",
        CLAIM,
        out=out,
        probes=["robustness", Norms(bounds=["l2:0.7", "l0:2"], queries=50)],
        attack="fmn-linf",
        limit=12,
    )


def test_a_network_is_broken_in_three_norms_image_by_image(report, digits, digits_model):
    finding, model = report["norms"], load_model(str(digits_model)).module
    assert report["robustness"].numbers["robust_accuracy"] >= finding.numbers["accuracy_linf"]
    assert finding.numbers["bounds"] == {"l0": 2, "l2": 0.7, "linf": 0.1}
    grid = torch.from_numpy(finding.images["examples"])
    assert grid.shape == (5, 4, 1, 8, 8)
    captions = finding.figures[0].captions  # type: ignore[union-attr]
    hardness = []
    for tiles, row in zip(grid, captions, strict=True):
        label, index = map(int, re.findall(r"\d+", row[0]))
        assert torch.equal(tiles[0], digits.test.images(torch.tensor([index]))[0])
        assert digits.test.labels[index] == label
        predictions = model(tiles).argmax(1).tolist()
        assert predictions[0] == label
        change = (tiles[1:] - tiles[0]).abs().flatten(1)
        sizes = [float((change[0] > 1e-6).sum()), float(change[1].norm()), float(change[2].max())]
        for norm, size, answer, caption in zip(
            ("l0", "l2", "linf"), sizes, predictions[1:], row[1:], strict=True
        ):
            assert answer != label
            assert caption.startswith(f"{amount(Threat(norm, size))}, classified as {answer}, by ")
            assert caption.rpartition("by ")[2] in ATTACKS[norm]
        hardness.append(sizes[0] / 2 + sizes[1] / 0.7 + sizes[2] / 0.1)
    assert np.all(np.diff(hardness) >= 0)


def test_the_bounds_stand_in_the_report_and_in_the_call_that_repeats_it(report):
    assert report.provenance["bounds"] == ["l2:0.7", "l0:2"]
    assert report.provenance["command"].endswith(
        "probes=['robustness', Norms(bounds=['l2:0.7', 'l0:2'], queries=50)], "
        "limit=12, attack='fmn-linf', seed=0)"
    )
    page = report.html.read_text()
    assert page.count("<svg") >= 5
    assert draw(report.folder)["norms"].tables == report["norms"].tables


@pytest.mark.usefixtures("undrawn")
def test_a_second_run_computes_nothing(report, digits_model, monkeypatch):
    def refuse(*_):
        raise AssertionError("attacked again")

    monkeypatch.setattr("scotoma.execution.evaluation.attack_batch", refuse)
    again = scotoma.audit(
        str(digits_model),
        "digits",
        CLAIM,
        out=report.folder,
        probes=["robustness", Norms(bounds=["l2:0.7", "l0:2"], queries=50)],
        attack="fmn-linf",
        limit=12,
    )
    assert again.provenance["digest"] == report.provenance["digest"]


def reading(
    bound: Threat, distances: dict[tuple[str, Kind], list[float]], right: list[bool]
) -> NormAnalysis:
    def attack(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return images

    attacks = (
        AttackRecords(name, kind, None, attack, pl.DataFrame({bound.norm: values}))
        for (name, kind), values in distances.items()
    )
    nearest = np.where(right, np.min(list(distances.values()), axis=0), 0.0)
    ledger = pl.DataFrame({"prediction": right, "success": right & np.isfinite(nearest)})
    ledger = ledger.with_columns(pl.Series(bound.norm, nearest), label=pl.lit(True))
    return NormAnalysis(bound, tuple(attacks), np.array(right), ledger)


def test_what_a_reading_counts():
    never = float("inf")
    analysis = reading(
        Threat("l2", 1.0),
        {
            ("a", "gradient"): [1.0, 2.0, never, never, 0.0, 1.0],
            ("b", "gradient"): [1.0, 1.5, never, never, 0.5, 2.0],
            ("c", "decision"): [1.0, 1.4, 3.0, never, 0.5, 0.899],
            ("d", "the audit's own"): [5.0, 0.5, 5.0, never, 5.0, 5.0],
        },
        [True] * 4 + [False, True],
    )
    assert analysis.nearest.tolist() == [1, 0.5, 3, never, 0, 0.899]
    assert analysis.finder.tolist() == [0, 3, 2, -1, -1, 2], (
        "the first of those that tie; none for a clean error or a failure"
    )
    assert analysis.accuracy() == rate(np.array([False, False, True, True, False, False])), (
        "a distance at the bound is inside"
    )
    assert analysis.success == rate(np.array([True, True, False, False, True]))
    assert analysis.median == 0.899
    nearer = np.array([False, False, True, True])
    assert analysis.decision_nearer == rate(nearer), (
        "1.4 is not clearly less than 1.5; 0.899 is than 1; the one that stands has no say"
    )
    assert not analysis.is_masked
    closer = replace(analysis, rows=analysis.rows.with_columns(l2=pl.col("l2") * 0.9))
    assert closer.nearest.tolist() == pytest.approx([0.9, 0.45, 2.7, never, 0, 0.8091])
    assert closer.finder.tolist() == [-1] * 6, "an attack of another probe found them"
    assert closer.accuracy() == analysis.accuracy()
    assert closer.decision_nearer == analysis.decision_nearer, "which compares these attacks alone"
    alone = reading(Threat("l2", 1.0), {("a", "gradient"): [never, never, 1.0]}, [True] * 3)
    assert alone.median == never
    assert alone.decision_nearer is None
    assert not alone.is_masked


def named(data: Dataset, name: str, shape: tuple[int, int, int]) -> Dataset:
    split = ArraySplit(np.zeros((2, *shape), dtype=np.float32), np.array([0, 1]), name)
    return replace(from_splits(name, None, split), name=name)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("mnist", (1, 28, 28), {"l0": 12, "l2": 1.5, "linf": 0.3}),
        ("fashion-mnist", (1, 28, 28), {"l0": 12, "l2": 1.5, "linf": 0.3}),
        ("cifar-10", (3, 32, 32), {"l0": 24, "l2": 0.5, "linf": 8 / 255}),
        ("mine", (1, 56, 56), {"l0": 48, "l2": 3.0, "linf": 0.3}),
        ("mine", (3, 28, 28), {"l0": 12, "l2": 1.5 * 3**0.5, "linf": 0.3}),
        ("mine", (1, 2, 2), {"l0": 1, "l2": 1.5 / 14, "linf": 0.3}),
    ],
)
def test_the_bounds_of_data(around_grey, name, shape, expected):
    data, flat = (
        named(around_grey, name, shape),
        nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 2)),
    )

    def told(threat: Threat, *chosen: Threat) -> dict[str, float]:
        return {
            norm: bound.eps
            for norm, bound in bounds(make_claim(flat, data, threat), chosen).items()
        }

    assert told(Threat("l1", 3.0)) == pytest.approx(expected)
    assert told(Threat("linf", 0.07)) == pytest.approx(expected | {"linf": 0.07})
    assert told(Threat("l2", 0.7), Threat("l2", 9), Threat("l0", 3)) == pytest.approx(
        expected | {"l2": 0.7, "l0": 3}
    )
    assert told(Threat("linf", 0.07), Threat("l2", 9), Threat("l2", 8)) == pytest.approx(
        expected | {"l2": 8, "linf": 0.07}
    )


def test_bounds_are_read_and_refused():
    assert read_bounds(["l2:1.5", Threat("l0", 12)], CLAIM) == (Threat("l2", 1.5), Threat("l0", 12))
    assert read_bounds([], CLAIM) == ()
    for given, says in (
        (["l2"], "bounds=l2: threat 'l2' has no size"),
        (["l2:much"], "bounds=l2:much: eps 'much'"),
        (["l0:1.5"], "bounds=l0:1.5: .* whole number"),
        (["l3:1"], "bounds=l3:1: unknown norm 'l3'"),
        (["l1:3"], "bounds=l1:3: L1 is not measured"),
        (["l2:1", "l0:3", "l2:2"], "bounds=l2:1,l2:2: L2 is given twice"),
        (
            ["linf:0.3"],
            "bounds=linf:0.3: the claim is one in L-inf, and its own bound counts: threat=linf:0.1",
        ),
    ):
        with pytest.raises(InputError, match=says):
            read_bounds(given, CLAIM)


def test_an_unknown_attack_is_told_before_any_work(tmp_path, around_grey, monkeypatch):
    monkeypatch.setattr(Run, "attack", lambda *_, **__: pytest.fail("attacked"))
    claim = make_claim(Linear(), around_grey, CLAIM)
    for attacks, says in (
        ({"linf": ("fmn-linf",), "l2": ("dnn",)}, "did you mean 'ddn'"),
        ({"l0": ("ddn",)}, "ddn is for l2"),
    ):
        with pytest.raises(InputError, match=says):
            Norms(attacks).finding(claim, Run(claim, tmp_path / "run"), Settings("fmn-linf"))
