"""Examples made on other models, on models of which it is known what they do."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import scotoma
from centroids import centroids
from scotoma.attacks.single_step import FGSM
from scotoma.auditing import make_claim
from scotoma.claim import Claim
from scotoma.data.dataset import Dataset
from scotoma.execution import evaluation
from scotoma.execution.run import Run
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.probes.base import Settings
from scotoma.probes.transfer import sources as source_models
from scotoma.probes.transfer.matrix import ANY, MISLED, Cell, Maker, Matrix
from scotoma.probes.transfer.probe import Transfer, crafting
from scotoma.probes.transfer.sources import TOGETHER, Source
from scotoma.report import figures
from scotoma.report.publishing import draw
from scotoma.results.finding import Finding, Gallery
from scotoma.threat import Threat
from scotoma.training.loop import Schedule
from scotoma.utils.stats import rate

THREAT = Threat("linf", 0.1)
ATTACKS = ["fgsm", "rand-fgsm", "ifgsm", "mim", "mim-margin"]


class Rounded(nn.Module):
    """A model that sees eight grey levels, and through which no gradient comes."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, images):
        return self.module((images * 8).round() / 8)


def tilted(linear: nn.Sequential, seed: int, by: float = 0.3) -> nn.Sequential:
    """A linear model near another one."""
    given, layer = linear[1], nn.Linear(64, 10)
    assert isinstance(given, nn.Linear)
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.copy_(
            given.weight + by * torch.randn(10, 64, generator=draws) * given.weight.std()
        )
        layer.bias.copy_(given.bias)
    return nn.Sequential(nn.Flatten(), layer)


def named(model: nn.Module | str, name: str, data: Dataset, **card) -> Classifier:
    loaded = load_model(model)
    return replace(loaded, name=name, card=loaded.card | card).checked(data)


def run_of(
    folder, data: Dataset, model: nn.Module | Classifier | str, limit: int | None = 50
) -> Run:
    return Run(make_claim(model, data, THREAT), folder, limit=limit)


def measure(run: Run, *given: Classifier, attack: str = "pgd") -> Finding:
    return Transfer(given).finding(run.claim, run, Settings(attack))


def success(finding: Finding, target: str, source: str, attack: str) -> float:
    (row,) = (
        row
        for row in finding.tables["matrix"]
        if (row["target"], row["source"], row["attack"]) == (target, source, attack)
    )
    return row["success"]


@pytest.fixture(scope="module")
def linear(digits) -> nn.Sequential:
    return centroids(digits)


@pytest.fixture(scope="module")
def others(linear, digits) -> list[Classifier]:
    return [named(tilted(linear, seed), f"tilted-{seed}", digits) for seed in (1, 2)]


@pytest.fixture(scope="module")
def honest(tmp_path_factory, digits, linear, others) -> tuple[Run, Finding]:
    """A run on a linear model, and what it found."""
    folder = tmp_path_factory.mktemp("honest")
    run = run_of(folder, digits, named(linear, "audited", digits))
    return run, measure(run, *others)


@pytest.fixture
def finding(honest) -> Finding:
    return honest[1]


def test_every_source_meets_every_target(finding):
    names = ["audited", "tilted-1", "tilted-2"]
    rows = finding.tables["matrix"]
    assert [(row["target"], row["source"], row["attack"]) for row in rows] == list(
        product(names, [*names, TOGETHER], ATTACKS)
    )
    held_out = {(row["target"], row["source"]) for row in rows if row["held_out"]}
    assert held_out == {
        *((a, b) for a, b in product(names, names) if a != b),
        ("audited", TOGETHER),
    }
    assert [row["source"] for row in finding.tables["sources"]] == names[1:]
    assert [row["source"] for row in finding.tables["by_source"]] == [
        "audited (itself)",
        *names[1:],
        TOGETHER,
    ]
    for row in finding.tables["pairs"]:
        cells = [
            cell
            for cell in rows
            if (cell["target"], cell["source"]) == (row["target"], row["source"])
        ]
        assert row in cells
        assert row["success"] == max(cell["success"] for cell in cells)
    for row in finding.tables["by_source"]:
        assert row[ANY] >= max(row[attack] for attack in ATTACKS)


def test_the_rates_are_those_of_the_gradient_taken_by_hand(digits, linear, others, finding):
    indices = torch.randperm(len(digits.test), generator=torch.Generator().manual_seed(0))[:50]
    images, labels = digits.test.images(indices), digits.test.labels[indices]
    models = {"audited": linear, "tilted-1": others[0].module, "tilted-2": others[1].module}
    for source, target in product(models, models):
        leaf = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(models[source](leaf), labels), leaf)
        example = (images + THREAT.eps * gradient.sign()).clamp(0, 1)
        right = models[target](images).argmax(1) == labels
        expected = (models[target](example).argmax(1) != labels)[right].float().mean()
        assert success(finding, target, source, "fgsm") == pytest.approx(float(expected), abs=1e-5)
    for row in finding.tables["sources"]:
        assert row["accuracy"] == pytest.approx(
            float((models[row["source"]](images).argmax(1) == labels).float().mean()), abs=1e-5
        )


def test_accuracies_are_of_each_images_worst(honest):
    run, found = honest
    numbers = found.numbers
    by_image = run.records.filter(
        pl.col("attack").str.contains(r"on (tilted|all together)")
    ).group_by("index")
    worst = by_image.agg(
        fell=pl.col("success").any(), right=(pl.col("prediction") == pl.col("label")).all()
    )
    assert len(worst) == 50
    assert numbers["black_box_accuracy"] == pytest.approx((worst["right"] & ~worst["fell"]).mean())
    assert numbers["black_box_success"] == pytest.approx(
        worst.filter("right")["fell"].mean(), abs=1e-5
    )
    white = run.records.filter(pl.col("attack").str.starts_with("PGD"))
    stands = (white["prediction"] == white["label"]) & ~white["success"]
    assert numbers["white_box_accuracy"] == pytest.approx(stands.mean())
    assert (numbers["n"], numbers["attacked"]) == (50, worst["right"].sum())
    assert numbers["strongest_success"] >= numbers["weakest_success"]


def test_a_copy_of_the_model_makes_its_white_box_examples(tmp_path, digits, digits_model):
    run = run_of(tmp_path / "run", digits, str(digits_model), 20)
    finding = measure(run, named(str(digits_model), "copy", digits))
    for attack in ATTACKS:
        assert success(finding, "digits-pgd", "copy", attack) == success(
            finding, "digits-pgd", "digits-pgd", attack
        )
    white, copied = (
        run.attack(FGSM(THREAT)),
        run.transferred(FGSM(THREAT), named(str(digits_model), "copy", digits)),
    )
    assert copied.drop("attack", "forwards", "backwards").equals(
        white.drop("attack", "forwards", "backwards")
    )
    assert not any(row["held_out"] for row in finding.tables["matrix"])
    assert finding.verdict == "not applicable"
    assert "option sources" in finding.headline
    assert finding.numbers["black_box_accuracy"] is None
    assert finding.numbers["transfer_only"] == 0, "what it breaks is white box"
    assert any("copy has the weights of the audited model" in note for note in finding.notes)


@pytest.mark.slow
def test_a_source_that_knows_nothing_is_told_and_breaks_little(tmp_path, digits, linear, others):
    torch.manual_seed(0)
    noise = named(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "noise", digits)
    finding = measure(run_of(tmp_path / "run", digits, linear), noise, others[0])
    known, unknown = (
        success(finding, "Sequential", name, "fgsm") for name in ("tilted-1", "noise")
    )
    assert unknown < 0.1 < known
    assert [note.split()[0] for note in finding.notes if "weak evidence" in note] == ["noise"]
    assert finding.numbers["black_box_success"] >= known, "the worst is not spoilt by it"


def test_sources_seen_in_training_do_not_count(tmp_path, digits, linear, others):
    seen = [f"somewhere/tilted-1 {others[0].sha256[:16]}"]
    audited = named(linear, "audited", digits, options={"sources": seen})
    finding = measure(run_of(tmp_path / "run", digits, audited, 15), *others)
    assert [row["held_out"] for row in finding.tables["sources"]] == [False, True]
    counted = [
        row for row in finding.tables["matrix"] if row["target"] == "audited" and row["held_out"]
    ]
    assert {row["source"] for row in counted} == {"tilted-2"}, "no ensemble of one"
    assert finding.numbers["strongest_source"] == "tilted-2"
    assert finding.tables["by_source"][1]["source"] == "tilted-1 (used in training)"
    alone = measure(run_of(tmp_path / "run", digits, audited, 15), others[0])
    assert alone.verdict == "not applicable"
    assert "was used in its training" in alone.headline


@pytest.fixture
def masked(tmp_path, digits, linear, others) -> Finding:
    return measure(
        run_of(tmp_path / "run", digits, named(Rounded(linear), "rounded", digits)), *others
    )


@pytest.mark.slow
def test_masked_gradients_are_found_out(tmp_path, digits, linear, others):
    rounded = named(Rounded(linear), "rounded", digits)
    masked = measure(run_of(tmp_path / "masked", digits, rounded, 80), *others)
    numbers = masked.numbers
    assert numbers["transfer_only"] > 20
    assert numbers["misled"] is True
    assert numbers["black_box_accuracy"] < numbers["white_box_accuracy"] - 0.2
    assert "gradients mislead" in masked.headline
    assert f"not {numbers['white_box_accuracy']:.1%}" in masked.headline
    assert masked.verdict == "weak", "of the rate, not of the reason"
    run = run_of(tmp_path / "honest", digits, linear, 80)
    honest = measure(run, *others, attack="min-linf")
    assert honest.numbers["misled"] is False
    assert honest.numbers["transfer_only"] == 0
    assert "mislead" not in honest.headline


def test_the_gallery_begins_with_what_the_white_box_attack_missed(masked, digits):
    gallery, images = masked.figures[-1], masked.images["examples"]
    assert isinstance(gallery, Gallery)
    assert images.shape == (6, 3, 1, 8, 8)
    assert np.abs(images[:, 1] - images[:, 0]).max() <= THREAT.eps + 1e-6
    assert np.allclose(images[:, 2], 0.5 + (images[:, 1] - images[:, 0]) / 2)
    assert "The white-box attack does not fool the first" in gallery.caption
    assert len({row[2] for row in gallery.captions}) > 1, "different attacks and sources"
    everything = digits.test.images(torch.arange(len(digits.test))).numpy()
    for original, caption in zip(images[:, 0], gallery.captions, strict=True):
        (index,) = np.flatnonzero((everything == original).all((1, 2, 3)))
        assert caption[0] == str(int(digits.test.labels[index]))
        assert caption[1] != f"classified as {caption[0]}"


@pytest.mark.slow
def test_each_source_is_attacked_once_for_all_targets(
    tmp_path, digits, linear, others, monkeypatch
):
    asked = []
    craft = evaluation.craft_batch

    def counted(self, attack, module, reduced, indices):
        asked.append((module, attack, len(indices)))
        return craft(self, attack, module, reduced, indices)

    monkeypatch.setattr(evaluation, "craft_batch", counted)
    first = measure(run_of(tmp_path / "run", digits, linear, 80), *others)
    assert len(asked) == 2 * 4 * len(ATTACKS)
    assert {images for _, _, images in asked} == {50, 30}
    again = measure(run_of(tmp_path / "run", digits, linear, 80), *others)
    assert (again.numbers, again.tables) == (first.numbers, first.tables)
    assert len(asked) == 2 * 4 * len(ATTACKS)
    measure(run_of(tmp_path / "run", digits, linear, 80), others[0])
    assert len(asked) == 2 * 4 * len(ATTACKS), "another choice of sources is no other example"


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on(tmp_path, digits, linear, others, monkeypatch):
    undisturbed = measure(run_of(tmp_path / "undisturbed", digits, linear, 100), *others)
    asked = []
    craft = evaluation.craft_batch

    def stopped(self, *given):
        asked.append(given)
        if len(asked) == 9:
            raise KeyboardInterrupt
        return craft(self, *given)

    monkeypatch.setattr(evaluation, "craft_batch", stopped)
    with pytest.raises(KeyboardInterrupt):
        measure(run_of(tmp_path / "run", digits, linear, 100), *others)
    units = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "units").iterdir()}
    finding = measure(run_of(tmp_path / "run", digits, linear, 100), *others)
    assert len(asked) == 2 * 4 * len(ATTACKS) + 1, (
        "two units of 50 images; only the one that was stopped is made again"
    )
    assert (
        units.items()
        <= {
            path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "units").iterdir()
        }.items()
    )
    assert (finding.numbers, finding.tables) == (undisturbed.numbers, undisturbed.tables)


def test_nothing_right(tmp_path, digits, linear, others):
    class Wrong(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = linear

        def forward(self, images):
            return -self.module(images)

    finding = measure(run_of(tmp_path / "run", digits, Wrong(), 12), *others)
    assert finding.verdict == "not applicable"
    assert "nothing to attack" in finding.headline
    assert finding.numbers["black_box_success"] is None
    assert finding.numbers["black_box_accuracy"] == 0
    assert "examples" not in finding.images
    assert all(figures.draw(figure, finding).startswith("<?xml") for figure in finding.figures)


def test_one_image_and_a_source_with_more_classes(tmp_path, digits, linear):
    wide = named(nn.Sequential(*linear, nn.ConstantPad1d((0, 3), -50.0)), "wide", digits)
    finding = measure(
        run_of(tmp_path / "run", digits, linear, 1),
        wide,
        named(tilted(linear, 1), "tilted", digits),
    )
    assert finding.numbers["n"] == 1
    assert any(note.startswith("wide: The model has 13 outputs") for note in finding.notes)
    assert "nan" not in finding.headline


def test_an_attack_that_does_not_see_the_model_is_no_white_box(tmp_path, digits, linear, others):
    finding = measure(run_of(tmp_path / "run", digits, linear, 8), *others, attack="transfer")
    assert any("White-box attack: strong" in note for note in finding.notes)


# What a matrix means, from cells made by hand.

MODELS = {
    name: Classifier(nn.Identity(), name, name * 8) for name in ("audited", "first", "second")
}


def cell(
    source: str, fell: list[int], held_out: bool = True, n: int = 10, attack: str = "fgsm"
) -> Cell:
    hit = np.isin(np.arange(n), fell)
    return Cell("audited", source, attack, held_out, np.ones(n, bool), hit, hit.astype(int))


def reading(digits: Dataset, cells: list[Cell], white: list[int], n: int = 10) -> Matrix:
    frame = pl.DataFrame(
        {"label": [0] * n, "prediction": [0] * n, "success": [i in white for i in range(n)]}
    )
    frame = frame.with_columns(linf=pl.when("success").then(0.05).otherwise(np.inf))
    makers = {name: Maker(model, (model,)) for name, model in MODELS.items()}
    sources = tuple(Source(MODELS[name], True, "") for name in ("first", "second"))
    claim = Claim(MODELS["audited"], digits, THREAT)
    return Matrix(claim, sources, makers, cells, frame, "pgd", crafting(THREAT))


def test_the_worst_is_taken_image_by_image(digits):
    matrix = reading(
        digits,
        [cell("first", [0, 1, 2]), cell("second", [2, 3, 4]), cell("audited", [9], held_out=False)],
        [0, 1, 2, 5],
    )
    assert matrix.success.value == 0.5
    assert matrix.standing(matrix.black).value == 0.5
    assert matrix.standing(matrix.white).value == 0.6
    assert np.flatnonzero(matrix.only).tolist() == [3, 4]
    assert matrix.standing(matrix.white, matrix.others).value == 0.4


def test_what_was_seen_in_training_counts_against_the_gradients_alone(digits):
    matrix = reading(digits, [cell("first", [0, 1], held_out=False), cell("second", [1])], [])
    assert matrix.success.value == 0.1
    assert np.flatnonzero(matrix.only).tolist() == [0, 1]


@pytest.mark.parametrize("n", [40, 500, 5000])
def test_gradients_mislead_beyond_the_rule_alone(digits, n):
    shares = [rate(np.arange(n) < k).low for k in range(n)]
    least = next(k for k, low in enumerate(shares) if low > MISLED)
    for k, misled in ((0, False), (least - 1, False), (least, True)):
        assert reading(digits, [cell("first", list(range(k)), n=n)], [], n).is_misled is misled


def test_the_report(tmp_path, digits, linear, others):
    given = [others[0], tilted(linear, 5)]
    report = scotoma.audit(
        linear,
        digits,
        "linf:0.1",
        out=tmp_path / "run",
        probes=[Transfer(given)],
        attack="pgd",
        limit=20,
    )
    page = report.html.read_text()
    finding = report["transfer"]
    for figure in finding.figures:
        assert figures.draw(figure, finding).startswith("<?xml")
        assert figure.caption in page
    assert finding.headline in page.replace("&#39;", "'")
    assert draw(report.folder).html.read_text() == page
    tilt = load_model(given[1])
    assert [source["sha256"] for source in report.provenance["sources"].values()] == [
        others[0].sha256,
        tilt.sha256,
    ]
    assert list(report.provenance["sources"]) == [
        f"{model.name} {model.sha256[:8]}" for model in (others[0], tilt)
    ]
    assert report.provenance["command"].count("[Transfer(sources=[tilted-1, Sequential])]") == 1
    assert report.provenance["passes"]["backwards"] == report.records["backwards"].sum()
    assert len(report.records) == 20 * (1 + 4 * len(ATTACKS))


def test_without_a_training_split_the_user_is_told_how_to_name_sources(tmp_path, digits, linear):
    finding = measure(run_of(tmp_path / "run", replace(digits, train=None), linear, 20))
    assert finding.verdict == "not applicable"
    assert "option sources" in finding.headline
    assert not list((tmp_path / "run").glob("units/*"))


@pytest.mark.slow
def test_on_digits_small_networks_are_made(tmp_path, digits, digits_model, monkeypatch):
    monkeypatch.setattr(source_models, "schedule_for", lambda images: Schedule(3, 32, 2e-3))
    finding = measure(run_of(tmp_path / "run", digits, str(digits_model), 40), attack="fmn-linf")
    assert [row["source"] for row in finding.tables["sources"]] == ["wong-small", "tramer-d"]
    assert all(row["accuracy"] > 0.8 and row["held_out"] for row in finding.tables["sources"])
    assert finding.numbers["black_box_accuracy"] >= finding.numbers["white_box_accuracy"]
