"""Carlini and Wagner's L-inf attack: closed form on linear models, and its own guarantees."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from linear import boxed_optimum, distance, linear_model, saturated_images
from torch import Tensor, nn
from trained import digits_images, digits_model

from scotoma.attacks.carlini_wagner import CarliniWagnerLinf
from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.oracle import Counted
from scotoma.utils.random import Randomness

SHAPE = (1, 28, 28)
GREY_LEVEL = 1 / 256
"""The attack's smallest tau: it does not look for perturbations far below it."""
QUICK = CarliniWagnerLinf("linf", tau_factor=0.6)
"""In fewer, larger steps of tau."""


def problem(n: int, seed: int = 0) -> tuple[nn.Sequential, Tensor, Tensor]:
    """Images of a linear model whose distance is not below one grey level."""
    model, images = linear_model(SHAPE, 10, seed), saturated_images(n, SHAPE, seed)
    labels = model(images).argmax(1)
    far = boxed_optimum(model, images, labels) > GREY_LEVEL
    return model, images[far], labels[far]


@cache
def search(scale: float = 1.0) -> tuple[nn.Sequential, Tensor, Tensor, Tensor, Counted]:
    """A model, images, labels, what the attack finds and what it cost, for tests of one search."""
    model, images, labels = problem(12)
    for weight in model.parameters():
        weight.mul_(scale)
    counted = Counted(model, len(images), images.device)
    return model, images, labels, CarliniWagnerLinf("linf")(counted, images, labels), counted


class Blind(nn.Module):
    """Logits that know nothing of the image: class 0, whatever it is."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.eye(10)[0] + 0 * images.flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize("scale", [1.0, 1 / 28], ids=["steep", "shallow"])
def test_comes_near_the_optimum_of_linear_models(scale: float):
    model, images, labels, adversarial, counted = search(scale)
    ratio = distance(adversarial, images) / boxed_optimum(model, images, labels)
    assert fooled(model(adversarial), labels).all()
    assert ratio.min() > 1 - 1e-4
    assert ratio.mean() < 1.1
    assert counted.forwards.max() <= 3000
    assert counted.backwards.max() < counted.forwards.max()


def test_perturbations_below_a_grey_level_are_not_refined():
    model, images = linear_model(SHAPE, 10), saturated_images(30, SHAPE)
    labels = model(images).argmax(1)
    near = boxed_optimum(model, images, labels) < GREY_LEVEL / 2
    assert near.any()
    adversarial = CarliniWagnerLinf("linf")(model, images[near], labels[near])
    assert (distance(adversarial, images[near]) <= GREY_LEVEL / 0.9 + 1e-6).all()


def test_results_on_a_trained_model_are_in_range_and_only_fooled_images_move():
    model, (images, labels) = digits_model(), digits_images(12)
    labels = labels.clone()
    labels[:3] = (model(images[:3]).argmax(1) + 1) % 10
    counted = Counted(model, len(images), images.device)
    adversarial = QUICK(counted, images, labels)
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    wrong, won = fooled(model(images), labels), fooled(model(adversarial), labels)
    assert won.all()
    assert torch.equal(adversarial[wrong], images[wrong])
    assert (counted.forwards[wrong] == 1).all()
    assert (distance(adversarial, images)[~wrong] > 0).all()
    assert counted.forwards.max() <= 3000


def test_the_second_start_never_loses_what_the_first_found():
    model, (images, labels) = digits_model(), digits_images(6)
    both = distance(QUICK(model, images, labels), images)
    first = distance(FirstStart("linf", tau_factor=QUICK.tau_factor)(model, images, labels), images)
    assert (both <= first + 1e-3).all()
    assert (both < first - 1e-3).any()


class FirstStart(CarliniWagnerLinf):
    """Leaves when the second start would begin."""

    def _next_start(self, state: Any) -> None:
        state.second.fill_(True)
        super()._next_start(state)


def test_what_cannot_be_fooled_comes_back_unchanged_and_is_given_up_soon():
    images, labels = saturated_images(3, SHAPE), torch.zeros(3, dtype=torch.int64)
    counted = Counted(Blind(), 3, images.device)
    assert torch.equal(CarliniWagnerLinf("linf")(counted, images, labels), images)
    assert counted.forwards.max() <= 1000


def test_gradients_that_are_not_numbers_do_no_harm():
    class Torn(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return logits(images) + 0 * images.clamp(min=0).sqrt().flatten(1).sum(1, keepdim=True)

    logits, images, labels = problem(4)
    adversarial = QUICK(Torn(), images, labels)
    assert fooled(logits(adversarial), labels).all()


def test_an_image_does_not_depend_on_its_batch():
    model, images, labels, together, _ = search()
    one = torch.tensor([2])
    alone = CarliniWagnerLinf("linf")(model, images[one], labels[one], generator=Randomness(0, one))
    torch.testing.assert_close(
        distance(together[one], images[one]), distance(alone, images[one]), rtol=0.02, atol=0
    )


def test_the_noise_belongs_to_the_image():
    model, images, labels = problem(2)
    first = torch.zeros(2, dtype=torch.int64)
    twins, answers = images[first], labels[first]
    same = QUICK(model, twins, answers, generator=Randomness(0, first))
    other = QUICK(model, twins, answers, generator=Randomness(0, torch.arange(2)))
    torch.testing.assert_close(
        distance(same, twins), distance(same, twins)[:1].expand(2), rtol=0.02, atol=0
    )
    assert not torch.equal(other[0], other[1])


def test_saturated_pixels_move():
    _, images, _, adversarial, _ = search()
    moved = (adversarial - images).abs() > 0.5 * distance(adversarial, images).view(-1, 1, 1, 1)
    for value in (0.0, 1.0):
        assert moved[images == value].float().mean() > 0.3


def test_an_image_leaves_once_it_is_near_enough():
    model, images, labels, adversarial, counted = search()
    hurried = Counted(model, len(images), images.device)
    optimum = boxed_optimum(model, images, labels)
    until = float(optimum.median()) * 1.5
    nearest = distance(adversarial, images)
    near = distance(CarliniWagnerLinf("linf", until=until)(hurried, images, labels), images)
    assert (near[nearest < until] < until).all()
    assert torch.equal(near[nearest >= until], nearest[nearest >= until])
    assert hurried.forwards[nearest < until].sum() < 0.5 * counted.forwards[nearest < until].sum()
