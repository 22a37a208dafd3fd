"""Salt-and-pepper noise: its promises, and what lies on its paths."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from decisions import Quantised, l0_optimum, problem
from torch import Tensor, nn
from trained import digits_images, digits_model

from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.noise import Contrast, GaussianNoise, SaltPepper
from scotoma.utils.random import Randomness


def test_more_noise_is_the_same_noise_and_more():
    images = torch.full((4, 3, 5, 5), 0.5)
    attack = SaltPepper("l0")
    drawn = attack.draw(images, Randomness.default(images), 0)
    levels = [
        attack.place(images, drawn, torch.full((4,), share)) for share in (0.0, 0.3, 0.6, 1.0)
    ]
    assert torch.equal(levels[0], images)
    for less, more in pairwise(levels):
        assert torch.equal(torch.where(less != 0.5, less, more), more)
        assert (size(more - images, "l0") > size(less - images, "l0")).all()
    assert set(levels[-1].unique().tolist()) == {0, 1}
    assert torch.equal(levels[-1].amin(1), levels[-1].amax(1))


def test_more_draws_come_nearer_and_none_below_the_optimum():
    model, images, labels = problem(20)
    optimum = l0_optimum(model, images, labels)
    counted = Counted(model, len(images), images.device)
    few, many = (
        size(SaltPepper("l0", draws)(counted, images, labels) - images, "l0") for draws in (5, 200)
    )
    won = few > 0
    assert won.float().mean() > 0.5
    assert (many[many > 0] >= optimum[many > 0]).all()
    assert (many[won] <= few[won]).all()
    assert many[won].mean() < few[won].mean()
    assert counted.forwards.float().mean() < 2 * 205  # few draws improve, the others cost one query


class White(nn.Module):
    """Is fooled while four pixels are white: one draw of noise in sixteen can do it."""

    def forward(self, images: Tensor) -> Tensor:
        fooling = (images[:, 0, 0, :4] == 1).all(1).float()
        return torch.stack([1 - fooling, fooling], dim=1)


@pytest.mark.parametrize("persistence", [0, 40])
@pytest.mark.parametrize("kind", [SaltPepper, GaussianNoise, Contrast])
def test_many_draws_at_once_find_what_one_after_the_other_does(kind, persistence, monkeypatch):
    model, (images, labels) = digits_model(), digits_images(12)
    attack = kind("l2", draws=100, persistence=persistence)
    rounds, results = [], []
    for most in (16, 1):
        monkeypatch.setattr("scotoma.attacks.core.search.AHEAD", most)
        calls = nn.Sequential(model)
        calls.register_forward_hook(lambda *_, most=most: rounds.append(most))
        results.append(attack(calls, images, labels))
    assert torch.equal(*results)
    assert rounds.count(16) < 0.8 * rounds.count(1)


def test_persistence_is_for_images_that_no_draw_fools_and_ends_when_one_does():
    images, labels = torch.zeros(200, 1, 4, 4), torch.zeros(200, dtype=torch.int64)
    counted = {persistence: Counted(White(), 200, images.device) for persistence in (0, 300)}
    few, many = (
        SaltPepper("l0", 5, persistence)(model, images, labels)
        for persistence, model in counted.items()
    )
    moved, brief, long = (
        (few != images).flatten(1).any(1),
        counted[0].forwards,
        counted[300].forwards,
    )
    assert 0 < moved.float().mean() < 0.5
    assert (many != images).flatten(1).any(1).float().mean() > 0.95
    assert torch.equal(long[moved], brief[moved])
    assert torch.equal(many[moved], few[moved])
    assert brief[~moved].tolist() == [6] * int((~moved).sum())
    assert (long[~moved] > 6).all()
    assert (long[~moved] <= 1 + 305 + 10).all()
    assert long[~moved].float().mean() < 200


def test_breaks_a_model_without_gradient():
    model, (images, labels) = Quantised(digits_model()), digits_images(40)
    right = ~fooled(model(images), labels)
    adversarial = SaltPepper("l0", draws=40)(model, images, labels)
    assert fooled(model(adversarial), labels)[right].float().mean() > 0.9
