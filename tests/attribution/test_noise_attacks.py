"""Inductive noise: what it changes, in which order, and that an image's noise is its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from deciders import OnePixel, linear_problem, random_map
from torch import Tensor, nn

from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.oracle import Counted
from scotoma.attribution.noise import (
    IMAGENET_MEAN,
    IMAGENET_SD,
    SHARES,
    InductiveNoise,
    default_counts,
)
from scotoma.attribution.ranking import ORDERS, by_pixel, places, ranking
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

SHAPE = (3, 6, 5)
EACH = tuple(range(1, 17))


def streams(n: int, seed: int = 3) -> Randomness:
    return Randomness(seed, torch.arange(n))


@pytest.mark.parametrize("kind", ["I", "II"])
@pytest.mark.parametrize("unit", ["values", "pixels"])
def test_where_one_pixel_decides_importance_breaks_at_one_and_reverse_at_the_end(
    unit: str, kind: str
):
    images = torch.full((5, 1, 4, 4), 0.4)
    attribution = random_map(5, (1, 4, 4)).clamp(-1, 1)
    attribution[:, 0, 2, 1] = 2
    found = InductiveNoise(EACH, draws=3, unit=unit, types=(kind,))(
        OnePixel(2, 1, 0.4), images, torch.zeros(5, dtype=torch.int64), attribution
    )
    assert found.counts == EACH
    assert found.wrong["importance", kind].all()
    assert found.wrong["reverse", kind][:, :, -1].all()
    assert not found.wrong["reverse", kind][:, :, :-1].any()
    at_random = found.wrong["random", kind]
    assert at_random[:, :, -1].all()
    assert (at_random.int().diff(dim=2) >= 0).all()
    assert 0.2 < at_random.float().mean() < 0.8


def test_random_places_hit_a_pixel_as_often_as_they_should_and_differ_by_draw():
    images = torch.full((40, 1, 4, 4), 0.4)
    noise = InductiveNoise((4, 8), draws=50, orders=("random",), types=("II",))
    wrong = noise(
        OnePixel(0, 0, 0.4), images, torch.zeros(40, dtype=torch.int64), torch.zeros_like(images)
    ).wrong["random", "II"]
    rates = wrong.float().mean((0, 1))
    assert (
        rates - torch.tensor([0.25, 0.5])
    ).abs().max() < 0.04  # three standard errors of 2,000 are 0.034 at most
    assert (
        wrong.float().mean(1).std(0).max() < 0.15
    )  # and no image keeps its places from draw to draw


@pytest.mark.parametrize("unit", ["values", "pixels"])
@pytest.mark.parametrize("noise", ["gaussian", "uniform"])
def test_answers_are_those_of_single_images_noised_by_hand(noise: str, unit: str):
    model, images, labels, attribution = linear_problem(4, SHAPE)
    attack = InductiveNoise(
        (2, 7, 20), draws=3, unit=unit, noise=noise, mean=(0.5, 0.4, 0.3), sd=(0.2, 0.3, 0.5)
    )
    random = streams(4)
    found = attack(model, images, labels, attribution, random)
    mean, sd = (
        torch.tensor((0.5, 0.4, 0.3)).view(3, 1, 1),
        torch.tensor((0.2, 0.3, 0.5)).view(3, 1, 1),
    )
    scores = by_pixel(attribution) if unit == "pixels" else attribution.flatten(1)
    for i in range(4):
        one = random.select(torch.tensor([i]))
        for draw in range(3):
            own = one.fork(1 + draw)
            z = (images[i] - mean) / sd
            s = attack.draw(images[i : i + 1], own)[0]
            s = s if noise == "gaussian" else z.min() + (z.max() - z.min()) * s
            for order in ORDERS:
                first = scores[i].argsort(descending=order == "importance")
                if order == "random":
                    first = ranking(scores[i : i + 1], "random", own.fork(0))[0]
                for column, k in enumerate(attack.counts or ()):
                    mask = torch.zeros(len(first), dtype=torch.bool)
                    mask[first[:k]] = True
                    mask = mask.view(-1, *SHAPE[1:]).expand(SHAPE)
                    for kind, noised in (("I", z + s), ("II", s)):
                        if noise == "uniform":
                            noised = noised.clamp(z.min(), z.max())
                        x = torch.where(mask, (noised * sd + mean).clamp(0, 1), images[i])
                        wrong = fooled(model(x[None]), labels[i : i + 1])
                        assert found.wrong[order, kind][i, draw, column] == wrong[0]


@pytest.mark.parametrize("kind", ["I", "II"])
@pytest.mark.parametrize("noise", ["gaussian", "uniform"])
def test_noise_stays_in_range_and_touches_nothing_else(noise: str, kind: str):
    images = 0.2 + 0.5 * torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    attack = InductiveNoise(noise=noise)
    mask = random_map(6, SHAPE) > 0
    noised = attack.perturb(images, mask, attack.draw(images, streams(6)), kind)
    assert torch.equal(noised[~mask], images[~mask])
    assert (noised[mask] != images[mask]).float().mean() > 0.95
    assert noised.min() >= 0
    assert noised.max() <= 1
    if noise == "uniform":
        own = images.flatten(1)
        assert (noised.flatten(1).amin(1) >= own.amin(1) - 1e-6).all()
        assert (noised.flatten(1).amax(1) <= own.amax(1) + 1e-6).all()


def test_the_scale_of_noise_is_that_of_the_normalisation():
    images = torch.full((400, 3, 8, 8), 0.5)
    attack = InductiveNoise(
        mean=tuple(0.5 + 0.1 * m for m in IMAGENET_MEAN), sd=tuple(s / 5 for s in IMAGENET_SD)
    )
    drawn, everywhere = attack.draw(images, streams(400)), torch.ones(1, 1, 1, dtype=torch.bool)
    for kind, centre in (
        ("I", torch.full((3,), 0.5)),
        ("II", 0.5 + 0.1 * torch.tensor(IMAGENET_MEAN)),
    ):
        noised = attack.perturb(images, everywhere, drawn, kind)
        assert torch.allclose(noised.mean((0, 2, 3)), centre, atol=2e-3)
        assert torch.allclose(noised.std((0, 2, 3)), torch.tensor(IMAGENET_SD) / 5, rtol=0.02)


class Noting(nn.Module):
    """A linear model that keeps what it was asked about."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.asked: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.asked.append(images)
        return self.model(images)


@pytest.mark.parametrize(("unit", "values"), [("pixels", 3), ("values", 1)])
def test_all_channels_of_a_pixel_are_noised_together_or_each_for_itself(unit: str, values: int):
    model, images, labels, attribution = linear_problem(3, SHAPE)
    noting = Noting(model)
    InductiveNoise((1, 4), orders=("importance",), types=("II",), unit=unit)(
        noting, images, labels, attribution
    )
    changed = torch.cat(noting.asked).view(2, *images.shape) != images
    assert changed.sum((2, 3, 4)).tolist() == [[values] * 3, [4 * values] * 3]
    best = (by_pixel(attribution) if unit == "pixels" else attribution.flatten(1)).argmax(1)
    where = changed[0].any(1) if unit == "pixels" else changed[0]
    assert torch.equal(where.flatten(1).float().argmax(1), best)


@pytest.mark.parametrize("shape", [(1, 5, 5), SHAPE])
def test_no_split_changes_an_answer_and_no_batch_is_too_large(shape: tuple[int, int, int]):
    model, images, labels, attribution = linear_problem(11, shape)
    attack = InductiveNoise((3, 9, 20), draws=7)
    whole = attack(model, images, labels, attribution, streams(11))
    for batch in (1, 2, 5, 10, 40):
        model.most = 0
        part = replace(attack, batch=batch)(model, images, labels, attribution, streams(11))
        assert model.most <= batch
        assert all(torch.equal(part.wrong[key], whole.wrong[key]) for key in whole.wrong)
    rows = torch.tensor([7, 2])
    some = attack(model, images[rows], labels[rows], attribution[rows], Randomness(3, rows))
    fewer = replace(attack, draws=3)(model, images, labels, attribution, streams(11))
    for key, wrong in whole.wrong.items():
        assert wrong.dtype == torch.bool
        assert wrong.shape == (11, 7, 3)
        assert 0 < wrong.float().mean() < 1
        assert torch.equal(some.wrong[key], wrong[rows])
        assert torch.equal(fewer.wrong[key], wrong[:, :3])


def test_each_answer_costs_its_image_one_pass():
    model, images, labels, attribution = linear_problem(9, SHAPE)
    counted = Counted(model, 9, images.device)
    InductiveNoise((3, 9), draws=5, batch=7)(counted, images, labels, attribution)
    assert counted.forwards.tolist() == [2 * 5 * 3 * 2] * 9
    assert counted.backwards.sum() == 0


def test_importance_goes_before_chance_and_chance_before_reverse():
    model, images, labels, attribution = linear_problem(200, SHAPE)
    found = InductiveNoise((10, 30), draws=4, types=("II",))(model, images, labels, attribution)
    first, chance, last = (found.wrong[order, "II"].float().mean((0, 1)) for order in ORDERS)
    assert (first > chance + 0.1).all()
    assert (chance > last + 0.1).all()


def test_a_map_of_zeros_is_as_good_as_chance():
    model, images, labels, _ = linear_problem(300, SHAPE)
    found = InductiveNoise((10, 30), draws=4, types=("II",))(
        model, images, labels, torch.zeros_like(images)
    )
    rates = [found.wrong[order, "II"].float().mean((0, 1)) for order in ORDERS]
    assert max(float((rate - rates[1]).abs().max()) for rate in rates) < 0.06


def test_ranking_puts_ties_at_random_and_reverse_is_importance_backwards():
    scores = torch.tensor([[0.0, 2, 0, -1, 0, 0]]).repeat(500, 1)
    ranked = ranking(scores, "importance", streams(500))
    assert (ranked[:, 0] == 1).all()
    assert (ranked[:, -1] == 3).all()
    assert (
        torch.bincount(ranked[:, 1], minlength=6)[[0, 2, 4, 5]].min() > 90
    )  # 125 each, give or take three times 10
    assert torch.equal(ranking(scores, "reverse", streams(500)), ranked.flip(1))
    assert torch.equal(places(ranked).gather(1, ranked), torch.arange(6).expand(500, 6))
    zeros = torch.zeros_like(scores)
    assert torch.equal(
        ranking(zeros, "importance", streams(500)), ranking(zeros, "random", streams(500))
    )


def test_default_counts_are_the_papers_shares():
    assert default_counts(150_528) == (500, 1_000, 5_000, 10_000, 20_000)
    assert default_counts(784) == tuple(round(share * 784) for share in SHARES)
    assert default_counts(16) == (1, 2)
    model, images, labels, attribution = linear_problem(2, SHAPE)
    assert InductiveNoise()(model, images, labels, attribution).counts == default_counts(90)
    assert InductiveNoise(unit="pixels")(
        model, images, labels, attribution
    ).counts == default_counts(30)


def test_inputs_may_lie_in_memory_in_any_way_and_are_left_alone():
    model, images, labels, attribution = linear_problem(5, SHAPE)
    attack, before = InductiveNoise((4,), draws=2), images.clone()
    plain = attack(model, images, labels, attribution)
    last = (
        images.to(memory_format=torch.channels_last),
        attribution.to(memory_format=torch.channels_last),
    )
    strided = attack(model, last[0], labels, last[1])
    assert all(torch.equal(plain.wrong[key], strided.wrong[key]) for key in plain.wrong)
    assert torch.equal(images, before)
    none = attack(model, images[:0], labels[:0], attribution[:0])
    assert none.wrong["random", "I"].shape == (0, 2, 1)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"counts": (0,)}, "numbers from 1 to 90"),
        ({"counts": (91,)}, "numbers from 1 to 90"),
        ({"counts": ()}, "numbers from 1 to 90"),
        ({"counts": (31,), "unit": "pixels"}, "numbers from 1 to 30"),
        ({"unit": "pixel"}, "pixels"),
        ({"noise": "normal"}, "noise"),
        ({"orders": ("importence",)}, "importance"),
        ({"types": ("III",)}, "type"),
        ({"draws": 0}, "draws"),
        ({"batch": 0}, "batch"),
        ({"sd": 0.0}, "sd"),
        ({"mean": float("nan")}, "mean"),
        ({"sd": (0.1, 0.2)}, "channels"),
    ],
)
def test_bad_options(options: dict, word: str):
    model, images, labels, attribution = linear_problem(2, SHAPE)
    with pytest.raises(InputError, match=word):
        InductiveNoise(**options)(model, images, labels, attribution)


def test_bad_maps():
    model, images, labels, attribution = linear_problem(2, SHAPE)
    with pytest.raises(InputError, match="shape"):
        InductiveNoise()(model, images, labels, attribution[:, :1])
    attribution[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="NaN"):
        InductiveNoise()(model, images, labels, attribution)
