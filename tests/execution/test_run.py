import json
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from scotoma.attacks.fmn import FMN
from scotoma.attacks.iterative import MIM
from scotoma.attacks.pgd import PGD
from scotoma.attacks.single_step import FGSM, RandFGSM
from scotoma.attacks.transfer import Transfer
from scotoma.auditing import make_claim
from scotoma.data.memory import from_memory
from scotoma.execution.fingerprint import describe, name
from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled, stages, units
from scotoma.models.loading import load_model
from scotoma.threat import Threat
from scotoma.transforms.control import Control
from scotoma.transforms.gamma import Gamma
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.errors import InputError

THREAT = Threat("linf", 0.1)


def make_run(model, data, folder, limit: int | None = 60, seed: int = 0) -> Run:
    return Run(make_claim(model, data, THREAT), folder, limit=limit, seed=seed)


def test_the_same_work_gives_the_same_records(tmp_path, digits, digits_model):
    first, again = (
        make_run(str(digits_model), digits, tmp_path / name).attack(PGD(THREAT, steps=5))
        for name in "ab"
    )
    assert first.equals(again)
    assert not first.equals(
        make_run(str(digits_model), digits, tmp_path / "c", seed=1).attack(PGD(THREAT, steps=5))
    )


def test_an_image_has_the_same_record_whatever_the_limit(tmp_path, digits, linear):
    columns = pl.exclude("l1", "l2", "linf", "margin")
    few, many = (
        make_run(linear, digits, tmp_path / str(n), n).attack(PGD(THREAT, steps=10))
        for n in (40, 300)
    )
    both = many.join(few.select("index"), on="index", how="semi")
    assert len(both) == 40
    assert both.select(columns).equals(few.select(columns))
    for column in ("l1", "l2", "linf", "margin"):
        assert both[column].to_list() == pytest.approx(few[column].to_list(), abs=1e-5)


def test_done_work_is_read_back(tmp_path, digits, linear):
    batches = []

    def attack(model, images, labels, generator=None):
        batches.append(len(images))
        return images

    first = make_run(linear, digits, tmp_path).attack(attack)
    once = len(batches)
    assert make_run(linear, digits, tmp_path).attack(attack).equals(first)
    assert len(batches) == once
    make_run(linear, digits, tmp_path).attack(attack, ScaleShift(0.9, 0))
    assert len(batches) == 2 * once


def test_more_images_take_up_the_work_on_fewer(tmp_path, digits, linear):
    batches = []

    def attack(model, images, labels, generator=None):
        batches.append(len(images))
        return images

    def of(limit: int) -> Run:
        return make_run(linear, digits, tmp_path, limit)

    few, many = of(250).attack(attack), of(450).attack(attack)
    assert len(batches) == 3
    assert few.equals(many.head(250))
    parts = units(of(450).indices)
    assert [len(part) for part in parts] == [50, 200, 200]
    assert all(part.diff().min() > 0 for part in parts)
    assert of(450).indices.sort().values.equal(shuffled(len(digits.test), 0)[:450].sort().values)


@pytest.mark.parametrize(
    ("n", "sizes"),
    [
        (1, [1]),
        (50, [50]),
        (51, [50, 1]),
        (250, [50, 200]),
        (251, [50, 200, 1]),
        (700, [50, 200, 250, 200]),
    ],
)
def test_work_units_are_whole_but_the_last(n, sizes):
    parts = units(torch.arange(n))
    assert [len(part) for part in parts] == sizes
    assert torch.cat(parts).equal(torch.arange(n))


@pytest.mark.parametrize(
    ("n", "ends"),
    [
        (30, [30]),
        (50, [50]),
        (60, [50, 60]),
        (250, [50, 250]),
        (2100, [50, 250, 500, 1000, 2000, 2100]),
    ],
)
def test_stages_are_whole_work_units(n, ends):
    assert stages(n) == ends


def test_records_are_kept_once_and_passes_counted_once(tmp_path, digits, linear):
    run = make_run(linear, digits, tmp_path, 20)
    assert run.records.is_empty()
    attack = FMN("linf", steps=5)
    frame = run.attack(attack)
    run.attack(attack)
    run.examples([name(attack)] * 2, None, frame.filter("success")["index"].to_list()[:2])
    run.attack(attack, ScaleShift(0.9, 0))
    assert len(run.records) == 40
    assert run.records.select("attack", "transform").unique().height == 2
    assert run.passes["backwards"] == run.records["backwards"].sum()


def test_examples_are_those_of_the_records(tmp_path, digits, linear):
    run, attack, move = (
        make_run(linear, digits, tmp_path),
        FMN("linf", steps=20),
        ScaleShift(0.9, 0.05),
    )
    successes = run.attack(attack, move).filter("success").tail(3)
    indices = successes["index"].to_list()[::-1]
    original, moved, adversarial = run.examples([name(attack)] * 3, move, indices)
    images = digits.test.images(torch.tensor(indices))
    assert torch.equal(torch.tensor(original), images)
    assert torch.equal(torch.tensor(moved), move(images))
    assert abs(adversarial - moved).max((1, 2, 3)).tolist() == pytest.approx(
        successes["linf"].to_list()[::-1], abs=1e-6
    )
    assert torch.equal(digits.test.images(torch.tensor(indices)), images)


@dataclass(frozen=True)
class Dark:
    """Has the fields of Gamma."""

    exponent: float

    def __call__(self, images: Tensor) -> Tensor:
        return images / (1 + self.exponent)


def test_a_transform_of_a_transform_is_another_work_unit_for_each(tmp_path, digits, linear):
    run, inner = make_run(linear, digits, tmp_path, 20), [Gamma(0.5), Gamma(0.6), Dark(0.5)]
    for of in inner:
        run.attack(PGD(THREAT, steps=1), Control(of))
    assert len(list((tmp_path / "units").iterdir())) == 3
    assert describe(Control(Dark(0.5)))["of"] == {"type": f"{__name__}.Dark", "exponent": 0.5}
    assert describe(PGD(THREAT))["threat"] == {"norm": "linf", "eps": 0.1}


class Darker:
    """A transform that is no dataclass, so that its settings cannot be read."""

    def __init__(self, by: float):
        self.by = by

    def __call__(self, images: Tensor) -> Tensor:
        return images * self.by


@pytest.mark.parametrize(
    "transforms",
    [
        (lambda images: images * 0.5, lambda images: images * 0.1),
        (partial(torch.mul, other=0.5), partial(torch.mul, other=0.1)),
        (Darker(0.5), Darker(0.1)),
    ],
)
def test_functions_are_not_taken_for_one_another(tmp_path, digits, linear, transforms):
    run = make_run(linear, digits, tmp_path, 20)
    records = [run.attack(PGD(THREAT, steps=1), each) for each in transforms]
    alone = make_run(linear, digits, tmp_path / "alone", 20)
    assert records[1]["margin"].equals(alone.attack(PGD(THREAT, steps=1), transforms[1])["margin"])
    assert not records[0]["margin"].equals(records[1]["margin"])
    assert len(run.records) == 40, "both are in the ledger"


def test_attacks_that_are_functions_have_work_of_their_own(tmp_path, digits, linear):
    def black(model, images, labels, generator=None):
        return images * 0

    def white(model, images, labels, generator=None):
        return images * 0 + 1

    run = make_run(linear, digits, tmp_path, 20)
    assert not run.attack(black)["linf"].equals(run.attack(white)["linf"])


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_a_batch_that_does_not_fit_is_halved(tmp_path, digits, linear, kind):
    sizes = []

    def hungry(model, images, labels, generator=None):
        sizes.append(len(images))
        if len(images) > 20:
            raise kind("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes")
        return images

    run = make_run(linear, digits, tmp_path)
    assert len(run.attack(hungry)) == 60
    assert max(sizes[2:]) <= 20, "once halved, batches stay small"
    assert run.batch_size == 13


def test_one_image_that_does_not_fit_is_told(tmp_path, digits, linear):
    def hungry(model, images, labels, generator=None):
        raise MemoryError

    with pytest.raises(InputError, match="one image of digits does not fit"):
        make_run(linear, digits, tmp_path, 5).attack(hungry)


def test_other_errors_are_not_swallowed(tmp_path, digits, linear):
    def broken(model, images, labels, generator=None):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        make_run(linear, digits, tmp_path).attack(broken)


def test_features_are_halved_too(tmp_path, digits, linear, monkeypatch):
    monkeypatch.setattr("scotoma.execution.batching.batch_size", lambda device, pixels: 64)
    run = make_run(linear, digits, tmp_path, 50)
    whole = run.features(digits.test, None, run.indices)
    forward = linear[0].forward

    def hungry(images):
        if len(images) > 10:
            raise MemoryError
        return forward(images)

    linear[0].forward = hungry
    assert (run.features(digits.test, None, run.indices) == whole).all()


class Noisy(nn.Module):
    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, images):
        return self.module(images) + 0.3 * torch.randn(len(images), 10)


def test_many_features_lie_in_a_file_that_goes_with_them(tmp_path, digits, linear, monkeypatch):
    run = make_run(linear, digits, tmp_path)
    few = run.features(digits.test, None)
    monkeypatch.setattr("scotoma.execution.features.IN_MEMORY", few.size - 1)
    files = sorted(tmp_path.rglob("*"))
    many = run.features(digits.test, None)
    assert isinstance(many, np.memmap)
    assert not isinstance(few, np.memmap)
    assert np.array_equal(few, many)
    assert sorted(tmp_path.rglob("*")) == files


def test_a_randomised_model_is_reproducible_and_leaves_the_callers_numbers(
    tmp_path, digits, linear
):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = make_run(Noisy(linear), digits, tmp_path / "a")
    assert "randomised" in first.claim.model.notes[0]
    frame = first.attack(FMN("linf", steps=5))
    features = first.features(digits.test, "logits", first.indices)
    assert torch.equal(torch.rand(3), expected)
    second = make_run(Noisy(linear), digits, tmp_path / "b")
    assert second.attack(FMN("linf", steps=5)).equals(frame)
    assert (second.features(digits.test, "logits", second.indices) == features).all()


def test_limits_and_seeds(tmp_path, digits, linear):
    for limit in (0, -3):
        with pytest.raises(InputError, match="at least one image"):
            make_run(linear, digits, tmp_path / "run", limit)
    for seed in (-1, 2**64):
        with pytest.raises(InputError, match="want a number from 0"):
            make_run(linear, digits, tmp_path / "run", seed=seed)
    assert not (tmp_path / "run").exists()
    drawn = [make_run(linear, digits, tmp_path / "run", 30, seed).indices for seed in (0, 1)]
    assert not torch.equal(*drawn)
    assert (drawn[0].diff() > 0).all()
    assert len(make_run(linear, digits, tmp_path / "run", 10**6).indices) == 500


def test_predictions_are_of_all_test_images_and_made_once(tmp_path, digits, linear, monkeypatch):
    run, move = make_run(linear, digits, tmp_path, 5), ScaleShift(0.8, 0.1)
    predictions = run.predictions(move)
    images = move(digits.test.images(torch.arange(len(digits.test))))
    assert predictions["prediction"].to_list() == linear(images).argmax(1).tolist()
    assert predictions["label"].to_list() == digits.test.labels.tolist()
    monkeypatch.setattr(Run, "map_batches", lambda *args: pytest.fail("asked again"))
    assert make_run(linear, digits, tmp_path, 7).predictions(move).equals(predictions)


def test_another_choice_of_images_shares_the_records(tmp_path, digits, linear):
    run = make_run(linear, digits, tmp_path, 5)
    chosen = run.correct_indices(8)
    frame = run.subset(chosen).attack(FMN("linf", steps=5))
    assert frame["index"].to_list() == chosen.tolist()
    assert (frame["prediction"] == frame["label"]).all()
    assert len(run.indices) == 5
    assert len(run.records) == 8


def test_examples_are_made_on_every_image_and_shown_to_any_model(
    tmp_path, digits, linear, digits_model
):
    run, source = (
        make_run(str(digits_model), digits, tmp_path, None),
        load_model(linear).checked(digits),
    )
    crafted = list(run.crafted(FGSM(THREAT), source))
    assert [len(unit) for unit in crafted] == [50, 200, 250]
    table = pl.concat(crafted)
    assert table["index"].to_list() == run.indices.tolist()
    assert set(table["forwards"]) == set(table["backwards"]) == {1}
    images, labels = digits.test.images(run.indices), digits.test.labels[run.indices]
    examples = FGSM(THREAT)(linear, images, labels)
    assert torch.allclose(
        torch.tensor(table["adversarial"].to_numpy()).view_as(images), examples, atol=1e-6
    )
    for target in (None, source):
        model = target or run.claim.model
        frame = run.transferred(FGSM(THREAT), source, target)
        assert frame.columns == run.attack(FGSM(THREAT)).columns
        right = model.module(images).argmax(1) == labels
        fooled = right & (model.module(examples).argmax(1) != labels)
        assert frame["prediction"].to_list() == model.module(images).argmax(1).tolist()
        assert frame["success"].to_list() == fooled.tolist()
        assert frame["linf"].filter(frame["success"]).max() == pytest.approx(THREAT.eps, abs=1e-6)
    assert len(run.records) == 2 * 500, "what another model says is no record of the audited one"
    assert run.passes["backwards"] == run.records["backwards"].sum()


def test_on_the_model_itself_examples_are_those_of_the_attack(tmp_path, digits, digits_model):
    run = make_run(str(digits_model), digits, tmp_path)
    copy = load_model(str(digits_model)).checked(digits)
    for attack in (RandFGSM(THREAT), MIM(THREAT, until_fooled=False)):
        whitebox = run.attack(attack).select(pl.exclude("attack", "forwards", "backwards"))
        for source in (run.claim.model, copy):
            assert run.transferred(attack, source).select(whitebox.columns).equals(whitebox)
    assert len(list((tmp_path / "units").iterdir())) == 2 * (2 + 2), "a copy is no other source"


def test_examples_do_not_depend_on_the_batches(tmp_path, digits, linear, digits_model, monkeypatch):
    source = load_model(str(digits_model)).checked(digits)
    whole = make_run(linear, digits, tmp_path / "a").transferred(RandFGSM(THREAT), source)
    monkeypatch.setattr("scotoma.execution.batching.batch_size", lambda device, pixels: 7)
    assert (
        make_run(linear, digits, tmp_path / "b")
        .transferred(RandFGSM(THREAT), source)["success"]
        .equals(whole["success"])
    )
    fewer = make_run(linear, digits, tmp_path / "c", 30).transferred(RandFGSM(THREAT), source)
    same_images = whole.join(fewer.select("index"), on="index", how="semi")
    assert same_images["success"].equals(fewer["success"])


def test_a_randomised_target_is_reproducible(tmp_path, digits, linear, digits_model):
    source = load_model(str(digits_model)).checked(digits)
    frames = [
        make_run(Noisy(linear), digits, tmp_path / name).transferred(FGSM(THREAT), source)
        for name in "ab"
    ]
    assert frames[0].equals(frames[1])


def test_a_source_that_breaks_is_named(tmp_path, digits, linear):
    run = make_run(linear, digits, tmp_path)

    class Breaks(nn.Module):
        def forward(self, images):
            return linear(images) / (images - digits.test.images(run.indices[-1:])).flatten(
                1
            ).abs().sum(1, keepdim=True)

    source = load_model(Breaks()).checked(digits)
    with pytest.raises(
        InputError, match=f"Breaks returns NaN or infinite logits for test image {run.indices[-1]}"
    ):
        run.transferred(FGSM(THREAT), source, source)


def test_models_in_an_attack_are_told_by_their_weights(digits, linear):
    source = load_model(linear).checked(digits)
    attack = Transfer(THREAT, (source, source))
    description = describe(attack)
    assert json.loads(json.dumps(description)) == description
    assert description["sources"][0]["model"] == source.sha256
    assert len(name(attack)) < 150
    assert name(attack).count(f"Sequential {source.sha256[:8]}") == 2
    moved = load_model(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))).checked(digits)
    other = Transfer(THREAT, (source, moved))
    assert name(other) != name(attack)
    assert describe(other) != description


def test_names_are_the_same_in_every_process():
    """Random numbers hang on them."""
    assert name(PGD(THREAT, steps=3)) == (
        "PGD(threat=Threat(norm='linf', eps=0.1), steps=3, step_size=None, restarts=1, "
        "loss=cross_entropy)"
    )
    assert name(Control(Gamma(0.5))) == "Control(of=Gamma(exponent=0.5), seed=0)"
    assert name(None) == "none"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_that_flattens_with_view_is_audited(tmp_path, channels: int):
    class Flattening(nn.Module):
        def __init__(self, flatten):
            super().__init__()
            torch.manual_seed(0)
            self.convolution, self.flatten = nn.Conv2d(channels, 4, 3), flatten
            self.layer = nn.Linear(4 * 6 * 6, 3)

        def forward(self, images):
            return self.layer(self.flatten(self.convolution(images).relu()))

    viewing = Flattening(lambda maps: maps.view(-1, 4 * 6 * 6))
    images = torch.rand(20, channels, 8, 8)
    data = from_memory((images, viewing(images).argmax(1)))
    findings = [
        make_run(model, data, tmp_path / name).attack(PGD(THREAT, steps=3))
        for name, model in {"view": viewing, "flat": Flattening(nn.Flatten())}.items()
    ]
    assert findings[0]["success"].any()
    assert findings[0]["success"].equals(findings[1]["success"])


def test_a_callable_reads_images_in_the_order_of_their_values(tmp_path):
    def predict(images):
        assert images.is_contiguous()
        return images.flatten(1)[:, :3].numpy()

    images = torch.rand(20, 3, 4, 4)
    data = from_memory((images, images.flatten(1)[:, :3].argmax(1)))
    assert len(make_run(predict, data, tmp_path).predictions()) == 20
