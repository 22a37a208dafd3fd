"""Additive noise and loss of contrast: guarantees, closed forms, and bisection of sizes."""

from __future__ import annotations

import pytest
import torch
from decisions import Quantised, l2_optimum, problem
from torch import Tensor, nn
from trained import digits_images, digits_model

from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.noise import GREYS, Contrast, GaussianNoise

ATTACKS = [GaussianNoise, Contrast]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_breaks_a_model_without_gradient(norm: str):
    model, (images, labels) = Quantised(digits_model()), digits_images(40)
    right = ~fooled(model(images), labels)
    for attack in ATTACKS:
        adversarial = attack(norm)(model, images, labels)
        assert fooled(model(adversarial), labels)[right].float().mean() > 0.9
        assert torch.equal(
            size(adversarial - images, norm) > 0, fooled(model(adversarial), labels) & right
        )


def test_noise_is_never_nearer_than_the_optimum_and_nearer_with_more_draws():
    model, images, labels = problem(20)
    few, many = (
        size(GaussianNoise("l2", draws)(model, images, labels) - images, "l2")
        for draws in (10, 200)
    )
    won = few > 0
    assert won.float().mean() > 0.5
    assert (many[many > 0] > l2_optimum(model, images, labels)[many > 0] - 1e-5).all()
    assert (many[won] <= few[won]).all()
    assert many[won].mean() < few[won].mean()


class Brightness(nn.Module):
    """Predict 1 if the mean is above `limit`, 2 if it is below 1 - `limit`, else 0."""

    def __init__(self, limit: float):
        super().__init__()
        self.limit = limit

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))
        return torch.stack(
            [torch.zeros_like(mean), mean - self.limit, 1 - self.limit - mean], dim=1
        )


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 4)])
def test_contrast_finds_how_far_to_go_to_which_grey(shape: tuple[int, int, int]):
    """A share s of the path to white gives mean m + s (1 - m), at s times the distance to white."""
    images = 0.3 + 0.4 * torch.rand(10, *shape, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(10, dtype=torch.int64)
    mean = images.mean((1, 2, 3))
    for norm in Contrast.norms:
        greys = torch.linspace(0, 1, GREYS)[:, None]
        shares = torch.where(
            greys > 0.8, (0.8 - mean) / (greys - mean), (mean - 0.2) / (mean - greys)
        )
        usable = ((greys < 0.2) | (greys > 0.8)) & (shares <= 1)
        far = torch.stack([size(grey - images, norm) for grey in greys[:, 0]])
        expected = (shares * far).masked_fill(~usable, torch.inf).amin(0)
        adversarial = Contrast(norm)(Brightness(0.8), images, labels)
        assert fooled(Brightness(0.8)(adversarial), labels).all()
        assert size(adversarial - images, norm).tolist() == pytest.approx(
            expected.tolist(), rel=0.015
        )


def test_contrast_draws_no_random_numbers():
    model, (images, labels) = digits_model(), digits_images(20)
    attack = Contrast("l2")
    assert torch.equal(attack(model, images, labels), attack(model, images, labels))


def test_contrast_meets_every_grey_at_every_level():
    images, values = torch.full((1, 1, 2, 2), 0.4), set()

    class Watch(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            values.update(round(value, 4) for value in images[:, 0, 0, 0].tolist())
            return torch.tensor([[0.0, 1.0]]).repeat(len(images), 1)

    Contrast("linf")(Watch(), images, torch.ones(1, dtype=torch.int64))
    longest = 0.6
    moves = {
        round(0.4 + (1 if grey > 4 else -1) * min(abs(grey / 10 - 0.4), longest * level / 8), 4)
        for grey in range(11)
        for level in range(1, 9)
    }
    assert values == moves
