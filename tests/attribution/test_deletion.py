"""Deletion and insertion curves: what is removed, in which order, and the area under them."""

from __future__ import annotations

import pytest
import torch
from deciders import OnePixel, Total, linear_problem, random_map
from torch import nn

from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.oracle import Counted
from scotoma.attribution.deletion import FRACTIONS, Curve, deletion_and_insertion
from scotoma.attribution.ranking import ORDERS
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

SHAPE = (3, 5, 4)
KINDS = ("deletion", "insertion")


def streams(n: int, seed: int = 3) -> Randomness:
    return Randomness(seed, torch.arange(n))


@pytest.mark.parametrize("shape", [(1, 4, 5), SHAPE])
@pytest.mark.parametrize("fractions", [FRACTIONS, (0.1, 0.35, 0.4)])
def test_curves_are_those_of_images_made_by_hand(
    fractions: tuple[float, ...], shape: tuple[int, int, int]
):
    model, images, labels, attribution = linear_problem(6, shape)
    baseline = tuple(0.1 * (c + 1) for c in range(shape[0]))
    colour = torch.tensor(baseline).view(-1, 1, 1)
    curves = deletion_and_insertion(
        model, images, labels, attribution, fractions, baseline, streams(6)
    )
    counts = sorted({0, 20} | {round(20 * f) for f in fractions})
    for order in ("importance", "reverse"):
        for kind in KINDS:
            curve = curves[order, kind]
            assert torch.allclose(curve.fractions, torch.tensor(counts) / 20)
            for i in range(6):
                ranked = attribution[i].sum(0).flatten().argsort(descending=order == "importance")
                for column, k in enumerate(counts):
                    first = torch.zeros(20, dtype=torch.bool)
                    first[ranked[:k]] = True
                    first = first.view(shape[1:])
                    x = torch.where(first if kind == "deletion" else ~first, colour, images[i])[
                        None
                    ]
                    logits = model(x)
                    assert torch.isclose(
                        curve.probability[i, column], logits.softmax(1)[0, labels[i]], atol=1e-6
                    )
                    assert curve.correct[i, column] != fooled(logits, labels[i : i + 1])[0]


def test_the_ends_are_the_image_and_the_baseline():
    model, images, labels, attribution = linear_problem(8, SHAPE)
    curves = deletion_and_insertion(model, images, labels, attribution, baseline="gray")
    whole = model(images).softmax(1).gather(1, labels[:, None]).squeeze(1)
    bare = model(torch.full_like(images, 0.5)).softmax(1).gather(1, labels[:, None]).squeeze(1)
    for order in ORDERS:
        for kind, (first, last) in zip(KINDS, ((whole, bare), (bare, whole)), strict=True):
            curve = curves[order, kind]
            assert torch.allclose(curve.probability[:, 0], first, atol=1e-6)
            assert torch.allclose(curve.probability[:, -1], last, atol=1e-6)
            assert curve.fractions[[0, -1]].tolist() == [0, 1]


def test_where_one_pixel_decides_it_is_removed_first_or_last():
    images, labels = torch.full((4, 1, 4, 4), 0.5), torch.zeros(4, dtype=torch.int64)
    attribution = random_map(4, (1, 4, 4)).clamp(-1, 1)
    attribution[:, 0, 1, 2] = 2
    each = [k / 16 for k in range(17)]
    curves = deletion_and_insertion(
        OnePixel(1, 2, 0.5), images, labels, attribution, each, generator=streams(4)
    )
    right = {key: curve.correct for key, curve in curves.items()}
    assert torch.equal(curves["importance", "deletion"].accuracy, torch.tensor([1.0] + [0] * 16))
    assert torch.equal(curves["reverse", "deletion"].accuracy, torch.tensor([1.0] * 16 + [0]))
    assert torch.equal(curves["importance", "insertion"].accuracy, torch.tensor([0.0] + [1] * 16))
    assert torch.equal(curves["reverse", "insertion"].accuracy, torch.tensor([0.0] * 16 + [1]))
    assert (right["random", "deletion"].int().diff(dim=1).sum(1) == -1).all()
    assert (right["random", "insertion"].int().diff(dim=1).sum(1) == 1).all()


def test_area_is_the_mean_of_the_probability_over_the_fractions():
    curve = Curve(
        torch.tensor([0.0, 0.25, 1]),
        torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0.5], [0, 1, 0]]),
        torch.ones(3, 3).bool(),
    )
    assert torch.allclose(curve.area, torch.tensor([0.125, 0.5, 0.5]))


class Sure(nn.Module):
    """The probability of class 0 is the mean of the image."""

    def forward(self, images):
        mean = images.mean((1, 2, 3)).clamp(1e-9, 1 - 1e-7)
        return torch.stack([mean.log(), torch.log1p(-mean)], 1)


def test_area_where_each_pixel_counts_alike_is_a_half_in_every_order():
    images, labels = torch.ones(3, 1, 5, 4), torch.zeros(3, dtype=torch.int64)
    curves = deletion_and_insertion(Sure(), images, labels, random_map(3, (1, 5, 4)))
    for curve in curves.values():
        assert torch.allclose(curve.area, torch.full((3,), 0.5), atol=1e-5)


def test_what_matters_fades_first_and_comes_back_first():
    model, images, labels, attribution = linear_problem(100, (3, 8, 8))
    curves = deletion_and_insertion(model, images, labels, attribution)
    fade, back = ([float(curves[order, kind].area.mean()) for order in ORDERS] for kind in KINDS)
    assert fade[0] + 0.1 < fade[1] < fade[2] - 0.1
    assert back[0] - 0.1 > back[1] > back[2] + 0.1


def test_both_orders_by_importance_break_ties_alike():
    images = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    attribution = random_map(5, (1, 6, 6)).round()  # many ties
    labels = torch.zeros(5, dtype=torch.int64)
    model = Total(random_map(1, (1, 6, 6))[0], 0.1)
    each = [k / 36 for k in range(37)]
    curves = deletion_and_insertion(model, images, labels, attribution, each, generator=streams(5))
    for order, back in (("importance", "reverse"), ("reverse", "importance")):
        assert torch.equal(
            curves[order, "insertion"].probability.flip(1), curves[back, "deletion"].probability
        )
    asymmetric = deletion_and_insertion(
        model, images, labels, attribution, each[:9], generator=streams(5)
    )
    for key, curve in asymmetric.items():
        assert torch.allclose(curve.probability[:, :9], curves[key].probability[:, :9], atol=1e-6)


def test_a_map_of_zeros_is_as_good_as_chance():
    model, images, labels, _ = linear_problem(300, SHAPE)
    curves = deletion_and_insertion(model, images, labels, torch.zeros_like(images))
    for kind in KINDS:
        areas = [float(curves[order, kind].area.mean()) for order in ORDERS]
        assert max(areas) - min(areas) < 0.05


def test_no_split_changes_an_answer_and_no_batch_is_too_large():
    model, images, labels, attribution = linear_problem(13, SHAPE)
    whole = deletion_and_insertion(model, images, labels, attribution, generator=streams(13))
    for batch in (1, 6, 50, 1000):
        model.most = 0
        part = deletion_and_insertion(
            model, images, labels, attribution, generator=streams(13), batch=batch
        )
        assert model.most <= batch
        for key, curve in whole.items():
            assert torch.allclose(part[key].probability, curve.probability, atol=1e-6)
            assert torch.equal(part[key].correct, curve.correct)
    rows = torch.tensor([9, 1])
    part = deletion_and_insertion(
        model, images[rows], labels[rows], attribution[rows], generator=Randomness(3, rows)
    )
    for key, curve in whole.items():
        assert torch.allclose(part[key].probability, curve.probability[rows], atol=1e-6)


def test_insertion_costs_nothing_more_where_fractions_are_symmetric():
    model, images, labels, attribution = linear_problem(4, SHAPE)
    counted = Counted(model, 4, images.device)
    deletion_and_insertion(counted, images, labels, attribution)
    assert counted.forwards.tolist() == [3 * 21] * 4


def test_no_images_and_inputs_in_any_layout():
    model, images, labels, attribution = linear_problem(4, SHAPE)
    none = deletion_and_insertion(model, images[:0], labels[:0], attribution[:0])
    assert none["random", "insertion"].area.shape == (0,)
    plain = deletion_and_insertion(model, images, labels, attribution)
    last = [part.to(memory_format=torch.channels_last) for part in (images, attribution)]
    strided = deletion_and_insertion(model, last[0], labels, last[1])
    assert all(torch.equal(plain[key].correct, strided[key].correct) for key in plain)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"fractions": (0.5, 1.5)}, "1.5"),
        ({"fractions": (float("nan"),)}, "nan"),
        ({"batch": 0}, "batch"),
        ({"baseline": "blakc"}, "black"),
        ({"baseline": -0.5}, "colour"),
    ],
)
def test_bad_options(options: dict, word: str):
    model, images, labels, attribution = linear_problem(2, SHAPE)
    with pytest.raises(InputError, match=word):
        deletion_and_insertion(model, images, labels, attribution, **options)


def test_bad_maps():
    model, images, labels, attribution = linear_problem(2, SHAPE)
    with pytest.raises(InputError, match="shape"):
        deletion_and_insertion(model, images, labels, attribution[:1])
