"""The minimum-norm search against the closed form on linear models, and its own promises."""

from __future__ import annotations

import pytest
import torch
from linear import boxed_optimum, clearly_classified, distance, linear_model, saturated_images
from torch import Tensor, nn
from trained import digits_images, digits_model

from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.min_linf import MinLinf
from scotoma.utils.random import Randomness


@pytest.mark.parametrize("seed", range(2))
def test_comes_within_two_percent_of_the_optimum_of_linear_models(seed: int):
    model, images = linear_model((1, 28, 28), 10, seed), saturated_images(40, (1, 28, 28), seed)
    images, labels = clearly_classified(model, images)
    adversarial = MinLinf("linf")(model, images, labels)
    assert fooled(model(adversarial), labels).all()
    ratio = distance(adversarial, images).double() / boxed_optimum(model, images, labels)
    assert ratio.min() > 1 - 1e-4
    assert ratio.mean() < 1.02


def test_restarts_towards_other_classes_only_shrink_the_perturbation():
    model = digits_model()
    images, labels = digits_images(100)
    one = distance(MinLinf("linf", steps=30, restarts=0)(model, images, labels), images)
    more = distance(
        MinLinf("linf", steps=30 + 9 * 20, restarts=9, restart_steps=20)(model, images, labels),
        images,
    )
    assert (more <= one).all()
    assert more.mean() < 0.99 * one.mean()


def test_images_leave_once_they_are_near_enough():
    model = digits_model()
    images, labels = digits_images(60)
    full, short = (
        Counted(model, len(images), images.device),
        Counted(model, len(images), images.device),
    )
    smallest = distance(MinLinf("linf")(full, images, labels), images)
    until = float(smallest.median())
    stopped = distance(MinLinf("linf", until=until)(short, images, labels), images)
    assert short.forwards.sum() < 0.9 * full.forwards.sum()
    assert ((stopped < until) == (smallest < until)).float().mean() > 0.9
    assert (short.forwards[stopped >= until] == full.forwards[stopped >= until]).all()


def test_same_seed_same_images_and_an_image_alone_as_in_a_batch():
    # a linear model's gradient is equal in any batch, so only random numbers could differ
    model, images = linear_model((1, 8, 8), 10, 0), saturated_images(8, (1, 8, 8), 0)
    labels = model(images).argmax(1)
    attack = MinLinf("linf", steps=40, restarts=2, restart_steps=10)
    together = attack(model, images, labels, generator=Randomness(3, torch.arange(8)))
    assert torch.equal(
        together, attack(model, images, labels, generator=Randomness(3, torch.arange(8)))
    )
    for row in (0, 5):
        alone = attack(
            model,
            images[row : row + 1],
            labels[row : row + 1],
            generator=Randomness(3, torch.tensor([row])),
        )
        assert torch.allclose(alone[0], together[row], atol=1e-5)


def test_wrong_images_and_unbreakable_models_are_left_alone():
    model, images = linear_model((1, 8, 8), 10, 1), saturated_images(20, (1, 8, 8), 1)
    wrong = (model(images).argmax(1) + 1) % 10
    assert torch.equal(MinLinf("linf")(model, images, wrong), images)
    constant = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        constant[1].weight.zero_()  # type: ignore[union-attr, operator]
    labels = constant(images).argmax(1)
    assert torch.equal(
        MinLinf("linf", steps=10, restarts=1, restart_steps=5)(constant, images, labels), images
    )
    assert MinLinf("linf")(model, images[:0], wrong[:0]).shape == (0, 1, 8, 8)


def test_finds_the_boundary_behind_a_threshold_that_kills_gradients_near_the_image():
    class Thresholded(nn.Module):
        """Rounds values below 0.25 away, as networks trained at large eps do with backgrounds."""

        def __init__(self):
            super().__init__()
            self.linear = linear_model((1, 8, 8), 3, 5)

        def forward(self, images: Tensor) -> Tensor:
            return self.linear((images - 0.25).clamp(min=0))

    model = Thresholded()
    images = torch.zeros(20, 1, 8, 8)
    images[:, :, 2:4, 2:4] = torch.rand(20, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    labels = model(images).argmax(1)
    adversarial = MinLinf("linf")(model, images, labels)
    assert fooled(model(adversarial), labels).all()


def test_the_passes_that_order_the_classes_come_out_of_the_steps():
    model, images = linear_model((1, 8, 8), 10, 0), saturated_images(8, (1, 8, 8), 0)
    labels = model(images).argmax(1)
    for restarts in (0, 1, 2, 9):
        counted = Counted(model, len(images), images.device)
        MinLinf("linf", steps=60, restarts=restarts, restart_steps=5)(counted, images, labels)
        searches = 1 + restarts  # each ends with a forward pass
        assert (counted.forwards + counted.backwards <= 2 * 60 + searches + 1).all()
        assert (counted.forwards + counted.backwards >= 2 * 60 + searches).all()
