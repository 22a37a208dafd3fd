"""Sigma-zero on linear models, where the fewest pixels are known, and on a robust network."""

from __future__ import annotations

import pytest
import torch
from decisions import problem
from few_pixels import hard, ratio
from trained import correct_digits, digits_images, digits_model

from scotoma.attacks import ATTACKS, make
from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.pointwise import Pointwise
from scotoma.attacks.sigma_zero import SigmaZero
from scotoma.threat import Threat
from scotoma.utils.errors import InputError

THREAT = Threat("l0", 12)


@pytest.mark.parametrize(
    ("shape", "classes", "most"),
    [((1, 12, 12), 2, 1.03), ((3, 10, 10), 4, 1.12)],
)
def test_few_more_than_the_optimum_of_linear_models(
    shape: tuple[int, int, int], classes: int, most: float
):
    assert ratio(SigmaZero("l0"), shape, classes) < most
    assert ratio(SigmaZero("l0", refine=False), shape, classes) < most + 0.05


def test_refining_only_takes_pixels_back():
    model, images, labels, _ = hard(20, (2, 8, 8), 4)
    rough, fine = (
        SigmaZero("l0", steps=40, refine=refine)(model, images, labels) for refine in (False, True)
    )
    assert not ((fine != images).any(1) & ~(rough != images).any(1)).any()
    assert (size(fine - images, "l0") < size(rough - images, "l0")).any()


def test_every_step_is_one_pass_each_way():
    model, images, labels = problem(8)
    counted = Counted(model, len(images), images.device)
    SigmaZero("l0", steps=7, refine=False)(counted, images, labels)
    assert counted.forwards.tolist() == [9] * len(images)
    assert counted.backwards.tolist() == [7] * len(images)


def test_fewer_pixels_than_pointwise_on_a_robust_network():
    model, images, labels = correct_digits(60)
    ours, theirs = (
        attack(model, images, labels) for attack in (SigmaZero("l0"), Pointwise("l0", restarts=1))
    )
    assert fooled(model(ours), labels).all()
    ours, theirs = (size(x - images, "l0").mean() for x in (ours, theirs))
    assert ours < 0.85 * theirs


def test_registered_for_l0_alone():
    assert isinstance(make("sigma-zero", THREAT), SigmaZero)
    assert ATTACKS["sigma-zero"] is SigmaZero
    with pytest.raises(InputError, match="for l0, not for l2"):
        make("sigma-zero", Threat("l2", 1))


def test_repeats_itself():
    model, (images, labels) = digits_model(), digits_images(10)
    first, second = (SigmaZero("l0", steps=30)(model, images, labels) for _ in range(2))
    assert torch.equal(first, second)
