import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from linear_optimum import ExactSettings
from masked_models import GradientKiller
from torch import Tensor, nn

import scotoma
from scotoma.attribution.integrated_gradients import IntegratedGradients
from scotoma.auditing import make_claim
from scotoma.data.dataset import ArraySplit, Dataset, from_splits
from scotoma.execution.budget import Budget, OutOfTimeError
from scotoma.execution.run import Run
from scotoma.models.loading import load_model
from scotoma.probes.base import Settings
from scotoma.probes.inequality import measurements as inequality_looking
from scotoma.probes.inequality import reference as inequality_reference
from scotoma.probes.inequality.analysis import FEW_PIXELS, FEW_VALUES, Cell
from scotoma.probes.inequality.probe import Inequality
from scotoma.probes.inequality.verdict import Limits
from scotoma.probes.transfer import sources
from scotoma.reference import Reference
from scotoma.report.figures import draw
from scotoma.results.finding import Finding
from scotoma.results.report import public
from scotoma.threat import Threat
from scotoma.training.loop import Schedule, train
from scotoma.utils.errors import InputError
from scotoma.utils.stats import Estimate, paired_difference

SIDE = 28
PLACE = 13
"""A pixel in the middle of a region, which squares about the region cover."""
TINY = Inequality(images=40, steps=8, draws=2)


class OnePixelDecides(nn.Module):
    """Linear, with one weight: class 1 where that pixel is above 0.7."""

    def forward(self, images: Tensor) -> Tensor:
        evidence = 5 * (images[:, 0, PLACE, PLACE] - 0.7)
        return torch.stack([-evidence, evidence], 1)


class Brightness(nn.Module):
    """Linear, every pixel with the same weight: class 1 where they are above 0.5 in the mean."""

    def forward(self, images: Tensor) -> Tensor:
        evidence = 10 * (images.mean((1, 2, 3)) - 0.5)
        return torch.stack([-evidence, evidence], 1)


def two_classes(images: Tensor, labels: Tensor) -> Dataset:
    half = len(images) // 2

    def part(rows: slice) -> ArraySplit:
        return ArraySplit(images[rows].numpy(), labels[rows].numpy(), "two classes")

    return from_splits("two-classes", part(slice(half)), part(slice(half, None)))


@pytest.fixture(scope="module")
def spot() -> Dataset:
    """Grey noise, but for one pixel: 0.1 in a tenth of the images, 0.9 in the others."""
    images = 0.4 + 0.2 * torch.rand(160, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    labels = (torch.arange(160) % 10 > 0).long()
    images[:, 0, PLACE, PLACE] = torch.where(labels == 1, 0.9, 0.1)
    return two_classes(images, labels)


@pytest.fixture(scope="module")
def dusk() -> Dataset:
    """Dark images and bright ones, every pixel between 0.35 and 0.45 or between 0.55 and 0.65."""
    labels = torch.arange(160) % 2
    dark = 0.35 + 0.1 * torch.rand(160, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return two_classes(dark + 0.2 * labels.view(-1, 1, 1, 1), labels)


def measure(
    folder: Path,
    model,
    data: Dataset,
    probe: Inequality = TINY,
    settings: Settings | None = None,
    **run,
) -> Finding:
    claim = make_claim(model, data, "linf:0.1")
    return probe.finding(claim, Run(claim, folder, **run), settings or Settings(attack="fgsm"))


@pytest.fixture(scope="module")
def decided(tmp_path_factory, spot) -> Finding:
    return measure(tmp_path_factory.mktemp("spot") / "run", OnePixelDecides(), spot)


@pytest.fixture(scope="module")
def even(tmp_path_factory, dusk) -> Finding:
    return measure(tmp_path_factory.mktemp("dusk") / "run", Brightness(), dusk)


def row(finding: Finding, table: str, **cells) -> dict:
    (match,) = [
        each
        for each in finding.tables[table]
        if all(each[key] == value for key, value in cells.items())
    ]
    return match


def test_where_one_pixel_decides_it_is_broken(decided):
    assert decided.verdict == "broken"
    assert decided.headline.startswith("A handful of pixels carries the prediction. ")
    numbers = decided.numbers
    assert numbers["n"] == 40
    assert numbers["gini"] == pytest.approx(1 - 1 / SIDE**2, abs=1e-6)
    assert numbers["gini_regional"] == pytest.approx(1 - 1 / 49, abs=1e-6)
    assert numbers["completeness_error"] < 1e-4
    for k in (3, 104):
        assert (
            row(decided, "noise", model="audited", type="II", order="importance", pixels=k)["error"]
            > 0.8
        )
        assert (
            row(decided, "noise", model="audited", type="II", order="reverse", pixels=k)["error"]
            == 0
        )
    black = {
        order: row(decided, "occlusion", colour="black", regions=5, radius=1, order=order)
        for order in ("importance", "reverse")
    }
    assert black["importance"]["error"] > 0.8, "every bright image, since black is dark"
    assert black["importance"]["covered"] == 4, "one square of radius 1"
    assert (black["reverse"]["error"], black["reverse"]["covered"]) == (0, None)
    assert black["importance"]["share"] == pytest.approx(20 / SIDE**2, rel=1e-5)
    assert row(decided, "shares", values=3)["evidence"] == 1
    assert row(decided, "concentration", model="audited")["effective_values"] == pytest.approx(1)


def test_where_evidence_is_spread_evenly_it_holds(even):
    """|x - 0.5| is uniform in [0.05, 0.15]: mean difference 0.1 / 3, mean 0.1, so Gini is 1/6."""
    assert even.verdict == "holds"
    assert even.headline.startswith("No handful of pixels carries the prediction. ")
    assert even.numbers["gini"] == pytest.approx(1 / 6, abs=0.01)
    assert all(each["error"] == 0 for each in even.tables["noise"])
    assert all(each["gap"] == 0 for each in even.tables["gaps"] if each["in_verdict"])
    assert all(each["gap_high"] > 0 for each in even.tables["gaps"]), (
        "no image fell, but there are few"
    )


def test_deletion_is_quick_where_one_pixel_decides(decided, even):
    by_importance = row(decided, "deletion", model="audited", order="importance")
    at_random = row(decided, "deletion", model="audited", order="random")
    assert by_importance["deletion"] < at_random["deletion"] < at_random["insertion"] + 0.1
    assert by_importance["insertion"] > at_random["insertion"]


def test_the_numbers_and_tables_that_the_schema_promises(decided):
    json.dumps(public(decided), allow_nan=False)
    for name in ("gini", "gini_regional", "error", "error_random", "gap"):
        assert (
            decided.numbers[f"{name}_low"]
            <= decided.numbers[name]
            <= decided.numbers[f"{name}_high"]
        )
    assert {
        "type",
        "order",
        "pixels",
        "error",
        "error_low",
        "error_high",
        "n",
        "model",
    } <= decided.tables["noise"][0].keys()
    assert {
        "colour",
        "regions",
        "radius",
        "order",
        "error",
        "covered",
        "n",
        "model",
    } <= decided.tables["occlusion"][0].keys()
    assert len(decided.tables["noise"]) == 2 * 5 * 3
    assert {(each["regions"], each["radius"]) for each in decided.tables["occlusion"]} == {
        (5, 1),
        (10, 2),
    }
    assert {each["convention"] for each in decided.tables["gini"]} == {
        "absolute",
        "positive",
        "net",
    }
    assert [figure.name for figure in decided.figures] == [
        "noise_I",
        "noise_II",
        "covers",
        "lorenz",
        "maps",
    ]
    for figure in decided.figures:
        assert "no data" not in draw(figure, decided)
    assert decided.images["maps"].shape == (5, 2, 3, SIDE, SIDE)
    assert decided.images["covers"].shape == (5, 3, 3, SIDE, SIDE)
    assert "integrated gradients" in " ".join(decided.notes)


def test_maps_show_the_pixel_that_counts_and_covers_hide_it(decided):
    maps = decided.images["maps"][:, 1]
    blank = np.ones((SIDE, SIDE), bool)
    blank[PLACE, PLACE] = False
    assert (maps[:, :, blank] == 1).all()
    assert (maps[:, :, PLACE, PLACE] < 1).any(1).all()
    original, important = decided.images["covers"][:, 0], decided.images["covers"][:, 1]
    assert (original[..., PLACE, PLACE] != important[..., PLACE, PLACE]).all()
    assert ((original != important).any(1).sum((1, 2)) <= 4).all()


def test_without_a_card_there_is_no_reference_and_it_is_told_how_to_give_one(decided):
    assert decided.numbers["reference"] is None
    for name in (
        "gini_reference",
        "gini_regional_reference",
        "gini_difference",
        "error_reference",
        "gap_reference",
    ):
        assert decided.numbers[name] is None
    assert {each["model"] for each in decided.tables["noise"]} == {"audited"}
    assert "option reference" in decided.notes[0]


def test_beside_a_reference_both_are_measured_on_the_same_images(tmp_path, spot):
    """The reference has only the bright images right."""

    class Half(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            evidence = (
                5 * (images[:, 0].mean((1, 2)) - 0.4)
                + 5 * (images[:, 0, PLACE, PLACE] - 0.7).relu()
            )
            return torch.stack([-evidence, evidence], 1)

    other = load_model(Half()).checked(spot)
    probe = replace(TINY, reference=other)
    finding = measure(tmp_path / "run", OnePixelDecides(), spot, probe)
    bright = int((spot.test.labels == 1).sum())
    assert finding.numbers["n"] == min(40, bright)
    few = measure(tmp_path / "few", OnePixelDecides(), spot, probe, limit=20)
    assert few.numbers["n"] < 20
    for table in ("gini", "noise", "occlusion", "gaps", "shares", "deletion", "concentration"):
        rows = {
            name: [each for each in finding.tables[table] if each["model"] == name]
            for name in ("audited", "reference")
        }
        assert len(rows["audited"]) == len(rows["reference"]) > 0
    numbers = finding.numbers
    assert numbers["gini_difference"] == pytest.approx(
        numbers["gini"] - numbers["gini_reference"], abs=1e-5
    )
    assert numbers["gini_reference"] < numbers["gini"]
    assert numbers["reference"].startswith("Half ")
    assert "for the naturally trained reference" in finding.headline
    assert finding.images["maps"].shape[1] == 3


def test_two_models_that_are_the_same_give_the_same_numbers(tmp_path, spot):
    same = load_model(OnePixelDecides()).checked(spot)
    probe = replace(TINY, reference=same)
    finding = measure(tmp_path / "run", OnePixelDecides(), spot, probe)
    for table in ("gini", "noise", "occlusion", "gaps", "deletion"):
        held = {
            name: [each for each in finding.tables[table] if each["model"] == name]
            for name in ("audited", "reference")
        }
        for mine, other in zip(held["audited"], held["reference"], strict=True):
            kept = {key: value for key, value in mine.items() if key not in ("model", "in_verdict")}
            assert kept == {
                key: value for key, value in other.items() if key not in ("model", "in_verdict")
            }


def test_a_small_model_with_a_card_is_compared_with_one_trained_now(
    tmp_path, digits, digits_model, monkeypatch
):
    claim = make_claim(str(digits_model), digits, "linf:0.1")
    run = Run(claim, tmp_path / "run", limit=20)
    monkeypatch.setattr(sources, "schedule_for", lambda images: Schedule(1, 256))
    choice = inequality_reference.choose_reference(claim, run)
    assert choice.model is not None
    assert (choice.model.card["recipe"], choice.model.card["arch"]) == ("natural", "small-cnn")
    assert choice.why.startswith(
        "The reference was trained for this probe: natural, small-cnn on digits, 1 epoch."
    )
    monkeypatch.setattr(inequality_reference, "MOST_IMAGES", 100)
    none = inequality_reference.choose_reference(claim, run)
    assert none.model is None
    assert "option reference" in none.why


def test_a_training_ends_when_the_time_is_over(tmp_path, digits, digits_model, monkeypatch):
    monkeypatch.setenv("SCOTOMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("scotoma.utils.cache.SHIPPED", tmp_path)  # else there is nothing to train
    run = Run(
        make_claim(str(digits_model), digits, "linf:0.1"),
        tmp_path / "run",
        limit=20,
        budget=Budget(1e-9),
    )
    with run.watched(), pytest.raises(OutOfTimeError):
        inequality_reference.choose_reference(run.claim, run)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_reference_model_that_is_there_comes_before_a_training(
    tmp_path, digits, digits_model, monkeypatch
):
    path = tmp_path / "twin.safetensors"
    train("natural", digits, "small-cnn", Threat("linf", 0.1), path, schedule=Schedule(1, 256))
    references = {
        "robust": Reference("pgd", "digits", "small-cnn", "linf:0.1", Schedule(1)),
        "else": Reference("natural", "digits", "wong-small", "linf:0.1", Schedule(1)),
        "twin": Reference("natural", "digits", "small-cnn", "linf:0.1", Schedule(1)),
    }
    monkeypatch.setattr(inequality_reference, "REFERENCES", references)
    monkeypatch.setattr(
        inequality_reference, "in_zoo", lambda name: path if name == "twin" else Path("missing")
    )
    claim = make_claim(str(digits_model), digits, "linf:0.1")
    choice = inequality_reference.choose_reference(claim, Run(claim, tmp_path / "run", limit=20))
    assert choice.model is not None
    assert choice.model.sha256 == load_model(str(path)).sha256
    assert "twin" in choice.why


def test_from_python_with_a_reference(tmp_path, digits, linear):
    other = nn.Sequential(*linear.children(), nn.Softsign())
    options = {
        "probes": [Inequality(images=10, steps=4, draws=1, reference=other)],
        "attack": "fgsm",
        "limit": 20,
    }
    report = scotoma.audit(linear, "digits", "linf:0.1", out=tmp_path / "run", **options)
    assert report.provenance["reference"]["sha256"] == load_model(other).sha256
    assert report["inequality"].numbers["gini_difference"] is not None
    assert "reference=Sequential" in report.provenance["command"]
    assert "Does a handful of pixels" in report.html.read_text()


def test_a_reference_that_cannot_be_used_is_told_before_the_work(
    scotoma, tmp_path, monkeypatch, digits_model
):
    monkeypatch.chdir(tmp_path)
    options = (
        "--data",
        "digits",
        "--threat",
        "linf:0.1",
        "--out",
        "run",
        "--reference",
        "missing.safetensors",
    )
    ended = scotoma("audit", digits_model, *options)
    assert (ended.code, ended.out) == (2, "")
    assert "missing.safetensors" in ended.err
    assert not (tmp_path / "run").exists()


@dataclass(frozen=True)
class Counting(IntegratedGradients):
    """Tells how many images it explained, and stops the audit at the one after `most`."""

    def __call__(self, model, images, labels, generator=None):
        for label in images.flatten(1)[:, 0].tolist():
            Tally.seen.append(label)
        if len(Tally.seen) > Tally.most:
            raise KeyboardInterrupt
        return super().__call__(model, images, labels, generator)


class Tally:
    seen: list[float] = []
    most = math.inf


def test_a_stopped_probe_goes_on_and_measures_no_image_twice(tmp_path, spot, monkeypatch):
    probe = Inequality(images=70, steps=4, draws=1)
    undisturbed = measure(tmp_path / "undisturbed", OnePixelDecides(), spot, probe)
    monkeypatch.setattr(inequality_looking, "IntegratedGradients", Counting)
    Tally.seen, Tally.most = [], 50
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path / "run", OnePixelDecides(), spot, probe)
    kept, Tally.seen, Tally.most = Tally.seen[:50], [], math.inf
    second = measure(tmp_path / "run", OnePixelDecides(), spot, probe)
    assert public(second) == public(undisturbed)
    assert len(Tally.seen) == 20 + 5 + 5, "the rest, and those of the two galleries"
    assert not set(kept) & set(Tally.seen[:20])
    Tally.seen = []
    assert public(measure(tmp_path / "run", OnePixelDecides(), spot, probe)) == public(undisturbed)
    assert Tally.seen == []


def test_the_smallest_perturbations_are_those_of_the_robustness_probe(tmp_path, grey, linear_grey):
    claim = make_claim(linear_grey, grey, "linf:0.02")
    run = Run(claim, tmp_path / "run", limit=60)
    settings = ExactSettings()
    records = run.attack(settings.make_attack(claim.threat))
    finding = Inequality(images=60, steps=4, draws=1).finding(claim, run, settings)
    assert run.records.height == records.height
    numbers = finding.numbers
    assert (
        -1
        <= numbers["spearman_gini_linf_low"]
        <= numbers["spearman_gini_linf"]
        <= numbers["spearman_gini_linf_high"]
        <= 1
    )


def test_images_in_colour(tmp_path):
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(60, 3, 12, 10, generator=generator)
    layer = nn.Linear(360, 3)
    model = nn.Sequential(nn.Flatten(), layer)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 360, generator=generator))
        labels = model(images).argmax(1)
    data = two_classes(images, labels)
    finding = measure(tmp_path / "run", model, data)
    assert finding.numbers["n"] == 30
    assert {each["pixels"] for each in finding.tables["noise"]} == {1, 2, 12, 24, 48}
    assert finding.images["maps"].shape == (5, 2, 3, 12, 10)
    for figure in finding.figures:
        draw(figure, finding)
    (level,) = [note for note in finding.notes if note.startswith("Maps are")]
    assert level.partition("training data, ")[2].partition(":")[0].count(",") == 2, (
        "one mean a channel"
    )


def test_one_image_and_none(tmp_path, spot):
    one = measure(tmp_path / "one", OnePixelDecides(), spot, limit=1)
    assert one.numbers["n"] == 1
    assert one.verdict == "undecided", "one image shows nothing"
    json.dumps(public(one), allow_nan=False)

    class Wrong(OnePixelDecides):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).flip(1)

    assert measure(tmp_path / "none", Wrong(), spot).verdict == "not applicable"


def test_without_a_gradient_it_is_not_applicable(tmp_path, spot):
    finding = measure(tmp_path / "run", GradientKiller(OnePixelDecides()), spot)
    assert finding.verdict == "not applicable"
    assert "no attribution maps" in finding.headline


def test_images_of_which_the_map_says_nothing_are_left_out(tmp_path, spot):
    class HalfBlind(OnePixelDecides):
        """Without a gradient where a corner is bright: there, and on the way from the mean."""

        def forward(self, images: Tensor) -> Tensor:
            logits = super().forward(images)
            return torch.where(images[:, :1, 0, 0] > 0.5, logits.detach(), logits)

    finding = measure(tmp_path / "run", HalfBlind(), spot, Inequality(images=80, steps=4, draws=1))
    bright = int((spot.test.images(torch.arange(80))[:, 0, 0, 0] > 0.5).sum())
    assert 0 < bright < 80
    assert finding.numbers["n"] == 80 - bright
    assert f"{bright} images were omitted" in " ".join(finding.notes)
    assert finding.numbers["gini"] == pytest.approx(1 - 1 / SIDE**2, abs=1e-6)


def cell(
    importance: float, random: float, n: int = 100, share: float = 0.01, attack: str = "noise"
) -> Cell:
    """The first images fall."""
    fell = {
        order: np.arange(n) < round(rate * n)
        for order, rate in (("importance", importance), ("random", random))
    }
    return Cell(
        attack, "II", 5, 5, share, {order: each.astype(float) for order, each in fell.items()}
    )


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([cell(0.95, 0.95)], "holds"),
        ([cell(0.0, 0.0)], "holds"),
        ([cell(0.95, 0.1)], "broken"),
        ([cell(0.95, 0.1), cell(0, 0)], "broken"),
        ([cell(0.95, 0.1, share=1.01 * FEW_VALUES), cell(0, 0)], "holds"),
        ([cell(0.95, 0.1, share=FEW_VALUES)], "broken"),
        ([cell(0.95, 0.1, share=FEW_PIXELS, attack="occlusion")], "broken"),
        ([cell(0.95, 0.1, share=1.01 * FEW_PIXELS, attack="occlusion"), cell(0, 0)], "holds"),
        ([cell(0.95, 0.65)], "weak"),
        ([cell(0.45, 0.0)], "weak"),
        ([cell(0.95, 0.1, n=3)], "weak"),
        ([cell(0.0, 0.0, n=5)], "undecided"),
        ([cell(0.1, 0.9)], "holds"),
    ],
)
def test_the_verdict_rests_on_the_gap_to_random_places(cells, expected):
    assert Limits().verdict(cells) == expected


def test_the_strongest_cell_is_the_one_that_decides():
    wide, broken = cell(0.49, 0.0), cell(0.9, 0.42)
    assert Limits().verdict([wide]) == "weak"
    assert Limits().verdict([broken]) == "broken"
    assert wide.gap.value > broken.gap.value
    assert Limits().strongest([wide, broken]) is broken
    assert Limits().strongest([wide, cell(0.3, 0.0)]) is wide


def gap(differences: np.ndarray) -> Estimate:
    return paired_difference(differences, 0 * differences, interval="agresti-min")


def test_the_interval_of_a_gap():
    """Agresti and Min 2005: half an image more in each cell of the two by two table."""
    for only_importance, only_random, n in ((30, 5, 100), (0, 0, 40), (7, 7, 20)):
        differences = np.zeros(n)
        (
            differences[:only_importance],
            differences[only_importance : only_importance + only_random],
        ) = 1, -1
        b, c, total = only_importance + 0.5, only_random + 0.5, n + 2
        half = 1.959964 * math.sqrt(b + c - (b - c) ** 2 / total) / total
        estimate = gap(differences)
        assert estimate.value == pytest.approx((only_importance - only_random) / n)
        assert estimate.low == pytest.approx((b - c) / total - half, abs=1e-6)
        assert estimate.high == pytest.approx((b - c) / total + half, abs=1e-6)
    assert math.isnan(gap(np.zeros(0)).value)
    assert gap(np.ones(1)).low < 0.15
    assert gap(np.ones(1)).high == 1


def test_bad_numbers_of_images():
    with pytest.raises(InputError, match="want at least 1"):
        Inequality(images=0)
