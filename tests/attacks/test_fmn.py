"""FMN against the closed form on linear models, its own promises, and another implementation."""

from __future__ import annotations

import pytest
import torch
from linear import boxed_optimum, linear_model, saturated_images
from torch import Tensor, nn
from trained import digits_images, digits_model

from scotoma.attacks.fmn import FMN
from scotoma.attacks.losses import GUARD, fooled, margin
from scotoma.attacks.oracle import Counted
from scotoma.claim import Threat

THREAT = Threat("linf", 0.3)


def problem(shape: tuple[int, int, int], n: int, seed: int = 0) -> tuple[nn.Sequential, Tensor, Tensor]:
    """Images further from the boundary than rounding, where distances of 1e-6 mean something."""
    model, images = linear_model(shape, 10, seed), saturated_images(n, shape, seed)
    logits = model(images)
    labels = logits.argmax(1)
    clear = margin(logits, labels) < -100 * GUARD * logits.abs().amax(1)
    return model, images[clear], labels[clear]


def distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().flatten(1).amax(1)


@pytest.mark.parametrize("seed", range(3))
def test_reaches_the_optimum_of_linear_models(seed: int):
    model, images, labels = problem((1, 28, 28), 200, seed)
    adversarial = FMN(THREAT)(model, images, labels)
    ratio = distance(adversarial, images) / boxed_optimum(model, images, labels)
    assert fooled(model(adversarial), labels).all()
    assert ratio.min() > 1 - 1e-4
    assert ratio.mean() < 1.02


def test_results_lie_in_range_and_only_fooled_images_move():
    model, (images, labels) = digits_model(), digits_images(100)
    adversarial = FMN(THREAT, steps=30)(model, images, labels)
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    wrong, won = fooled(model(images), labels), fooled(model(adversarial), labels)
    assert torch.equal(distance(adversarial, images) > 0, won & ~wrong)
    assert (won & ~wrong).any()


def test_more_steps_come_nearer():
    model, (images, labels) = digits_model(), digits_images(60)
    right = ~fooled(model(images), labels)
    short, long = (distance(FMN(THREAT, steps)(model, images, labels), images)[right] for steps in (10, 100))
    assert (long > 0).all()
    assert long.median() <= short[short > 0].median()


def test_every_step_is_one_pass_each_way_and_wrong_images_leave():
    model, images, labels = problem((1, 8, 8), 12)
    labels = labels.clone()
    labels[:3] = (labels[:3] + 1) % 10
    counted = Counted(model, len(images), images.device)
    adversarial = FMN(THREAT, steps=7)(counted, images, labels)
    assert torch.equal(adversarial[:3], images[:3])
    assert counted.forwards.tolist() == [1] * 3 + [9] * (len(images) - 3)
    assert counted.backwards.tolist() == [0] * 3 + [7] * (len(images) - 3)


def test_repeats_itself():
    model, (images, labels) = digits_model(), digits_images(30)
    assert torch.equal(FMN(THREAT, steps=20)(model, images, labels), FMN(THREAT, steps=20)(model, images, labels))


def test_an_image_alone_is_as_in_a_batch():
    model, images, labels = problem((1, 8, 8), 16)
    together = FMN(THREAT)(model, images, labels)
    for i in range(len(images)):
        alone = FMN(THREAT)(model, images[i : i + 1], labels[i : i + 1])
        assert torch.allclose(distance(alone, images[i : i + 1]), distance(together[i : i + 1], images[i : i + 1]), rtol=1e-3)


def test_no_images_and_images_all_wrong():
    model, images, labels = problem((1, 8, 8), 4)
    assert FMN(THREAT)(model, images[:0], labels[:0]).shape == (0, 1, 8, 8)
    assert torch.equal(FMN(THREAT)(model, images, (labels + 1) % 10), images)


def test_a_constant_model_leaves_images_unchanged():
    model, images, _ = problem((1, 8, 8), 4)
    layer = model[1]
    assert isinstance(layer, nn.Linear)
    layer.weight.zero_()
    layer.bias.copy_(torch.arange(10.0))
    assert torch.equal(FMN(THREAT)(model, images, torch.full((len(images),), 9)), images)


class Undefined(nn.Module):
    """A linear model with an undefined derivative at one pixel where it is 0."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images) + 0 * images[:, :1, 0, 0].sqrt()


def test_undefined_gradients_do_not_spread():
    model, images, labels = problem((1, 8, 8), 8)
    images[:, 0, 0, 0] = 0
    labels = model(images).argmax(1)
    adversarial = FMN(THREAT)(Undefined(model), images, labels)
    assert adversarial.isfinite().all()
    assert fooled(model(adversarial), labels).all()


def test_as_near_as_another_implementation():
    foolbox = pytest.importorskip("foolbox")
    model, (images, labels) = digits_model(), digits_images(100)
    right = ~fooled(model(images), labels)
    images, labels = images[right], labels[right]
    peer = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    _, theirs, won = foolbox.attacks.LInfFMNAttack(steps=100)(peer, images, labels, epsilons=None)
    ours = FMN(THREAT, steps=100)(model, images, labels)
    far = torch.where(won, distance(theirs, images), torch.inf)
    near = torch.where(fooled(model(ours), labels), distance(ours, images), torch.inf)
    assert near.isfinite().sum() >= won.sum()
    assert near.median() <= 1.02 * far.median()
