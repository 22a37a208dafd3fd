import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from scotoma.attacks.fmn import FMN
from scotoma.auditing import make_claim
from scotoma.data.dataset import Dataset
from scotoma.data.memory import from_memory
from scotoma.execution import records
from scotoma.execution.fingerprint import name
from scotoma.execution.run import Run
from scotoma.models.loading import load_model
from scotoma.threat import TOLERANCE, Threat
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.errors import InputError

THREAT = Threat("linf", 0.1)
LIMIT = 60


def make_run(
    model: nn.Module | str, data: Dataset, folder, limit: int | None = LIMIT, seed: int = 0
) -> Run:
    return Run(make_claim(model, data, THREAT), folder, limit=limit, seed=seed)


def with_examples(run: Run, attack, transform=None) -> pl.DataFrame:
    frame = run.attack(attack, transform)
    fooled = frame.filter("success")["index"].to_list()
    if not fooled:
        return frame.with_columns(pl.lit(None).alias(records.EXAMPLE)).sort("index")
    images = run.examples([name(attack)] * len(fooled), transform, fooled)[2]
    stored = pl.DataFrame({"index": fooled, records.EXAMPLE: images.reshape(len(fooled), -1)})
    return frame.join(stored, on="index", how="left").sort("index")


@pytest.mark.parametrize("transform", [None, ScaleShift(0.8, 0.1)])
def test_every_success_is_one_alone_in_plain_float32(tmp_path, digits_model, digits, transform):
    frame = with_examples(
        make_run(str(digits_model), digits, tmp_path), FMN("linf", steps=30), transform
    )
    plain = load_model(str(digits_model)).module
    originals = digits.test.images(torch.tensor(frame["index"].to_list()))
    originals = transform(originals) if transform else originals
    assert frame["success"].sum() > 50
    for row, original in zip(frame.iter_rows(named=True), originals, strict=True):
        with torch.no_grad():
            assert int(plain(original[None]).argmax()) == row["prediction"]
        if not row["success"]:
            assert row[records.EXAMPLE] is None
            continue
        adversarial = torch.tensor(row[records.EXAMPLE]).reshape(1, 1, 8, 8)
        with torch.no_grad():
            label = int(plain(adversarial).argmax())
        assert label == row["adversarial_prediction"] != row["label"]
        assert adversarial.min() >= 0
        assert adversarial.max() <= 1
        delta = (adversarial[0] - original).abs().flatten().double()
        assert row["linf"] == pytest.approx(delta.max().item(), abs=1e-7)
        assert row["l2"] == pytest.approx(delta.norm().item(), rel=1e-5)
        assert row["l1"] == pytest.approx(delta.sum().item(), rel=1e-5)
        assert row["l0"] == (delta > TOLERANCE).sum().item()


def test_clean_errors_are_at_distance_zero_and_failures_at_infinity(tmp_path, digits, linear):
    def give_up(model, images, labels, generator=None):
        return images

    frame = with_examples(make_run(linear, digits, tmp_path, None), give_up)
    wrong = frame.filter(pl.col("prediction") != pl.col("label"))
    right = frame.filter(pl.col("prediction") == pl.col("label"))
    assert 20 < len(wrong) < 100
    assert not frame["success"].any()
    for norm in ("l0", "l1", "l2", "linf"):
        assert set(wrong[norm]) == {0.0}
        assert set(right[norm]) == {float("inf")}
    assert (right["margin"] > 0).all()
    assert (wrong["margin"] <= 0).all()


def test_passes_are_counted_for_each_image(tmp_path, digits, linear):
    frame = with_examples(make_run(linear, digits, tmp_path, None), FMN("linf", steps=7))
    right, wrong = frame.filter(pl.col("margin") > 0), frame.filter(pl.col("margin") <= 0)
    assert set(right["forwards"]) == {9}  # one to look, seven steps, one at the end
    assert set(right["backwards"]) == {7}
    assert set(wrong["forwards"]) == set(wrong["backwards"]) == {0}


def out_of_range(model, images, labels, generator=None):
    return images + 3


def not_numbers(model, images, labels, generator=None):
    return images * torch.nan


def unfooled(model, images, labels, generator=None):
    return (images + 0.01).clamp(0, 1) * 0 + images.clamp(0, 1)


@pytest.mark.parametrize("attack", [out_of_range, not_numbers, unfooled])
def test_a_lie_is_not_believed(tmp_path, digits, linear, attack):
    frame = with_examples(make_run(linear, digits, tmp_path), attack)
    assert not frame["success"].any()
    assert frame[records.EXAMPLE].null_count() == len(frame)


def test_an_attack_cannot_touch_the_originals(tmp_path, digits, linear):
    def vandal(model, images, labels, generator=None):
        labels.zero_()
        return images.fill_(0.5)

    frame = with_examples(make_run(linear, digits, tmp_path), vandal)
    successes = frame.filter("success")
    assert len(successes)
    assert successes["linf"].min() == pytest.approx(
        0.5, abs=0.1
    )  # measured from the image, not from what became of it
    honest = digits.test.labels[torch.tensor(frame["index"].to_list())]
    assert frame["label"].to_list() == honest.tolist()


def test_images_of_somebody_else_are_far_away(tmp_path, digits, linear):
    def swap(model, images, labels, generator=None):
        return images.roll(1, 0)

    frame = with_examples(make_run(linear, digits, tmp_path), swap)
    assert frame["success"].any()
    assert not records.successes(frame, 0.3, "linf").any()


def test_who_falls_in_each_norm():
    frame = pl.DataFrame(
        {
            "label": [0] * 5,
            "prediction": [0, 0, 0, 0, 1],
            "success": [True, True, True, False, False],
            "linf": [0.1, 0.1, 0.2, np.inf, 0.0],
            "l2": [1.5, 2.0, 0.5, np.inf, 0.0],
            "l1": [300.0001, 300.1, 10, np.inf, 0.0],
            "l0": [3.0, 4.0, 40.0, np.inf, 0.0],
        }
    )
    for norm, eps, fell in (
        ("linf", 0.1, [0, 1]),
        ("l2", 1.5, [0, 2]),
        ("l1", 300.0, [0, 2]),
        ("l0", 3.0, [0]),
    ):
        assert np.flatnonzero(records.fallen(frame, eps, norm)).tolist() == fell, (
            "a clean error falls to nothing"
        )
        assert records.successes(frame, eps, norm).tolist() == [i in fell for i in range(4)]


def test_a_result_with_a_graph_is_taken_for_what_it_is(tmp_path, digits, linear):
    def attached(model, images, labels, generator=None):
        return images.requires_grad_() * 1

    assert not with_examples(make_run(linear, digits, tmp_path), attached)["success"].any()


@pytest.mark.parametrize(
    "returned", [lambda images: images[1:], lambda images: images.numpy(), lambda images: None]
)
def test_a_wrong_shape_is_told(tmp_path, digits, linear, returned):
    run = make_run(linear, digits, tmp_path)
    with pytest.raises(InputError, match=r"returned .* for images of shape"):
        run.attack(lambda model, images, labels, generator=None: returned(images))


def test_a_success_must_win_by_more_than_rounding():
    class Tie(nn.Module):
        def forward(self, images):
            first = images.flatten(1)[:, :1]
            return torch.cat([torch.full_like(first, 100.0), 100.0 + (first - 0.5) * 0.1], 1)

    images = torch.zeros(2, 1, 2, 2)
    adversarial = images.clone()
    adversarial[0, 0, 0, 0], adversarial[1, 0, 0, 0] = (
        0.502,
        0.6,
    )  # wins by 2e-6 and by 1e-4 of the largest logit
    zeros = torch.zeros(2, dtype=torch.int64)
    frame = records.measure(Tie(), torch.arange(2), images, zeros, adversarial, (zeros, zeros))
    assert frame["success"].to_list() == [False, True]


def test_logits_that_break_on_one_image_are_told(tmp_path, digits):
    class Breaks(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, images):
            bad = (images - digits.test.images(torch.tensor([40]))).flatten(1).abs().sum(
                1, keepdim=True
            ) == 0
            return self.layer(images.flatten(1)).masked_fill(bad, torch.nan)

    with pytest.raises(InputError, match="NaN or infinite logits for test image 40"):
        make_run(Breaks(), digits, tmp_path, None).attack(FMN("linf", steps=2))


def test_beyond_by_more_than_rounding():
    distances = np.array([0, 1e-7, 0.5, 0.5 + 5e-7, 0.51, 4.0 + 2e-6, np.inf])
    assert records.beyond(distances, 0).tolist() == [False] + 6 * [True]
    assert records.beyond(distances, 0.5).tolist() == 4 * [False] + 3 * [True]
    assert records.beyond(distances, 4.0).tolist() == 6 * [False] + [True]


def test_every_image_that_a_random_model_classifies_correctly_is_attacked(tmp_path, digits):
    class Coin(nn.Module):
        """Two classes, of which either is about as likely."""

        def forward(self, images):
            side = images.flatten(1).mean(1) - 0.3 + torch.randn(len(images))
            return torch.stack([side, -side], 1)

    labels = torch.arange(len(digits.test)) % 2
    images = digits.test.images(torch.arange(len(digits.test)))
    frame = make_run(Coin(), from_memory((images, labels)), tmp_path).attack(FMN("linf", steps=2))
    right = records.correct(frame)
    assert len(right)
    assert (right["forwards"] > 0).all()
