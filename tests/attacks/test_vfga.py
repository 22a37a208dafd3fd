"""VFGA on linear models, where the fewest pixels are known, and on a robust network."""

from __future__ import annotations

import pytest
import torch
from few_pixels import hard, ratio
from torch import Tensor, nn
from trained import correct_digits

from scotoma.attacks import ATTACKS, make
from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.pointwise import Pointwise
from scotoma.attacks.vfga import VFGA
from scotoma.threat import Threat
from scotoma.utils.errors import InputError

THREAT = Threat("l0", 12)


@pytest.mark.parametrize(
    ("shape", "classes", "most"),
    [((1, 12, 12), 2, 1.001), ((3, 10, 10), 4, 1.04), ((1, 28, 28), 3, 1.02)],
)
def test_hardly_more_than_the_optimum_of_linear_models(
    shape: tuple[int, int, int], classes: int, most: float
):
    assert ratio(VFGA("l0"), shape, classes) < most
    assert ratio(VFGA("l0", refine=False), shape, classes) < most + 0.02


def test_a_pixel_a_step():
    """Every step is one gradient and all trials; so many pixels are changed as steps were taken."""
    model, images, labels, optimum = hard(12, (2, 8, 8), 3)
    counted = Counted(model, len(images), images.device)
    attack = VFGA("l0", samples=4, pixels=3, refine=False)
    adversarial = attack(counted, images, labels)
    steps = counted.backwards
    assert torch.equal(counted.forwards, 1 + steps * (1 + 3 * 5))
    assert torch.equal(size(adversarial - images, "l0").long(), steps)
    assert (steps >= optimum).all()


def test_no_more_pixels_than_the_limit():
    model, images, labels, optimum = hard(30, (1, 12, 12), 2)
    limit = int(optimum.median())
    adversarial = VFGA("l0", limit=limit)(model, images, labels)
    won = fooled(model(adversarial), labels)
    assert torch.equal(won, optimum <= limit)
    assert won.any()
    assert torch.equal(adversarial[~won], images[~won])


def test_part_of_the_way_where_the_whole_does_not_fool():
    class Band(nn.Module):
        """Class 1 where the first pixel is between 0.4 and 0.7."""

        def forward(self, images: Tensor) -> Tensor:
            first = images[:, 0, 0, 0]
            return torch.stack([torch.full_like(first, 0.15), 0.3 - (first - 0.55).abs()], 1)

    images, labels = torch.zeros(20, 1, 3, 3), torch.zeros(20, dtype=torch.int64)
    adversarial = VFGA("l0", samples=20)(Band(), images, labels)
    assert fooled(Band()(adversarial), labels).float().mean() > 0.9


def test_as_few_pixels_as_pointwise_for_a_tenth_of_the_passes():
    model, images, labels = correct_digits(60)
    pixels, passes = [], []
    for attack in (VFGA("l0"), Pointwise("l0", restarts=10)):
        counted = Counted(model, len(images), images.device)
        adversarial = attack(counted, images, labels)
        assert fooled(model(adversarial), labels).all()
        pixels.append(float(size(adversarial - images, "l0").mean()))
        passes.append(int((counted.forwards + counted.backwards).sum()))
    assert pixels[0] < 1.1 * pixels[1]
    assert passes[0] < 0.15 * passes[1]


def test_registered_for_l0_alone():
    assert isinstance(make("vfga", THREAT), VFGA)
    assert ATTACKS["vfga"] is VFGA
    with pytest.raises(InputError, match="for l0, not for linf"):
        make("vfga", Threat("linf", 0.1))
