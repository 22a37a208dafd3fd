"""Gradients of every kind of illness, each named for what it is, beside sound ones."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from known_surfaces import SHAPE, TwoClass, bent, grey, linear, weight, zeros
from torch import Tensor, nn

from scotoma.metrics.health import RESOLUTION, Health, gradient_health

FLAGS = ("missing", "zero", "broken", "saturated", "randomised")


def flags(health: Health) -> dict[str, list[bool]]:
    return {name: getattr(health, name).tolist() for name in FLAGS}


def only(n: int, *names: str) -> dict[str, list[bool]]:
    return {name: [name in names] * n for name in FLAGS}


@pytest.mark.parametrize("shape", [SHAPE, (3, 5, 5)])
def test_sizes_on_a_linear_model(shape: tuple[int, int, int]):
    """The cross-entropy's gradient is the margin's times the probability of the wrong class."""
    w = weight(shape)
    w[:10] = 0
    images = grey(7, shape)
    health = gradient_health(linear(w), images, zeros(7))
    chance = torch.sigmoid((images.flatten(1) - 0.5) @ w - 1).double()
    for sizes, scale in ((health.margin, torch.ones(7)), (health.cross_entropy, chance)):
        for size, expected in zip(
            sizes,
            (w.abs().mean(), w.abs().max(), w.abs().sum(), w.norm(), 10 / len(w)),
            strict=True,
        ):
            factor = 1 if size is sizes.zeros else scale
            assert torch.allclose(
                size, torch.as_tensor(factor * expected).double().expand(7), rtol=1e-5
            )
    assert flags(health) == only(7)


def test_a_natural_network_is_sound():
    model = bent()
    health = gradient_health(model, grey(20), zeros(20))
    assert flags(health) == only(20)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_dropout_in_training_is_randomised_and_in_eval_is_not():
    model = nn.Sequential(nn.Dropout(), bent())
    assert flags(gradient_health(model.train(), grey(6), zeros(6))) == only(6, "randomised")
    assert flags(gradient_health(model.eval(), grey(6), zeros(6))) == only(6)


def test_noise_that_leaves_the_gradient_alone_is_randomised_too():
    w, calls = weight(), itertools.count()
    model = TwoClass(lambda x: (x - 0.5) @ w - 1 + 0.01 * next(calls))
    assert flags(gradient_health(model, grey(6), zeros(6))) == only(6, "randomised")


def test_quantised_images_have_a_gradient_of_zeros():
    w = weight()
    health = gradient_health(TwoClass(lambda x: torch.round(4 * x) @ w), grey(5), zeros(5))
    assert flags(health) == only(5, "zero")
    assert health.margin.zeros.tolist() == [1] * 5


class Cut(nn.Module):
    """Nothing but the weights can be differentiated by, or not even they."""

    def __init__(self, trainable: bool):
        super().__init__()
        self.layer = nn.Linear(64, 3).requires_grad_(trainable)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer((images.flatten(1) > 0.5).float())


@pytest.mark.parametrize("trainable", [True, False])
def test_a_graph_that_is_cut(trainable: bool):
    health = gradient_health(Cut(trainable), grey(5), zeros(5))
    assert flags(health) == only(5, "missing")
    assert health.margin.l2.tolist() == [0] * 5


def test_values_that_are_not_finite_belong_to_their_image():
    """The root of 0 has an infinite slope, and times 0 none at all."""
    w = weight()
    images = grey(6)
    images[1, 0, 0, 0] = 0
    health = gradient_health(
        TwoClass(lambda x: (x - 0.5) @ w - 1 + x[:, 0].sqrt()), images, zeros(6)
    )
    assert health.broken.tolist() == [False, True, False, False, False, False]
    assert not (health.zero | health.missing | health.saturated | health.randomised).any()
    health = gradient_health(
        TwoClass(lambda x: (x - 0.5) @ w - 1 + 0 * x[:, 0].sqrt()), images, zeros(6)
    )
    assert health.broken.tolist() == [False, True, False, False, False, False]
    assert health.margin.l1[0].isfinite()
    assert health.margin.l1[1].isnan()
    assert not health.randomised.any()


def test_a_gradient_that_overflows_is_broken_though_a_sure_model_hides_it_from_the_cross_entropy():
    health = gradient_health(
        TwoClass(lambda x: 1e20 * (1e20 * (x - x.detach()).sum(1)) - 20), grey(3), zeros(3)
    )
    assert health.cross_entropy.l1.isfinite().all()
    assert flags(health) == only(3, "broken")


@pytest.mark.parametrize(("share", "saturated"), [(0.8, True), (1.25, False)])
def test_saturation_begins_where_one_less_the_probability_is_lost(share: float, saturated: bool):
    margin = -math.log(share * RESOLUTION)
    health = gradient_health(linear(weight(), margin), torch.full((1, *SHAPE), 0.5), zeros(1))
    assert health.cross_entropy.l1[0] > 0
    assert bool(health.saturated) is saturated


def test_logits_times_a_thousand_kill_the_cross_entropy_alone():
    health = gradient_health(linear(weight(), margin=8, scale=1000), grey(6), zeros(6))
    assert flags(health) == only(6, "saturated")
    assert health.cross_entropy.zeros.tolist() == [1] * 6
    assert torch.allclose(health.margin.l1, 1000 * weight().abs().sum().double(), rtol=1e-5)
    assert flags(
        gradient_health(linear(weight(), margin=-8, scale=1000), grey(6), zeros(6))
    ) == only(6)


def test_tiny_gradients_keep_their_length():
    """Squares of 1e-25 are 0 in float32."""
    health = gradient_health(linear(weight(), scale=1e-25), grey(2), zeros(2))
    assert torch.allclose(health.margin.l2, 1e-25 * weight().norm().double(), rtol=1e-5)


def test_any_split_gives_the_same(monkeypatch):
    model, images = bent(), grey(11)
    whole = gradient_health(model, images, zeros(11))
    monkeypatch.setattr("scotoma.metrics.health.batch_size", lambda device, pixels: 4)
    split = gradient_health(model, images, zeros(11))
    for one, other in zip(
        (*whole.margin, *whole.cross_entropy), (*split.margin, *split.cross_entropy), strict=True
    ):
        assert torch.allclose(one, other, rtol=1e-4)
    assert flags(split) == only(11)


def test_no_images():
    health = gradient_health(bent(), grey(0), zeros(0))
    assert health.margin.l1.shape == health.missing.shape == health.saturated.shape == (0,)
