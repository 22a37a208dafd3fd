"""Refinement pixel by pixel on a linear model of binary images: the least L2 size is known."""

from __future__ import annotations

import torch
from decisions import problem
from torch import Tensor, nn

from scotoma.attacks.bpda import BPDA
from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.ddn import DDN
from scotoma.attacks.refine import Refined
from scotoma.models.layers import Binarise
from scotoma.utils.random import Randomness


def binary(n: int) -> tuple[nn.Module, Tensor, Tensor]:
    linear, images, _ = problem(n)
    model = nn.Sequential(Binarise(), linear)
    return model, images, model(images).argmax(1)


def test_only_pixels_that_cross_have_moved_and_just_across():
    model, images, labels = binary(20)
    attack = BPDA(DDN("l2"))
    far, near = (each(model, images, labels) for each in (attack, Refined(attack)))
    won = fooled(model(near), labels)
    assert torch.equal(won, fooled(model(far), labels))
    assert won.float().mean() > 0.9
    moved = near[won] != images[won]
    crossed = (near[won] >= 0.5) != (images[won] >= 0.5)
    assert torch.equal(moved, crossed)
    assert ((near[won] - 0.5).abs()[moved] < 2e-3).all()
    assert (
        (near - images)[won].flatten(1).norm(dim=1)
        < 0.9 * (far - images)[won].flatten(1).norm(dim=1)
    ).float().mean() > 0.8


def test_what_was_not_fooled_stays_and_passes_are_charged():
    model, images, labels = binary(6)
    counted = Counted(model, len(images), images.device)
    wrong = labels.clone()
    wrong[:2] = (wrong[:2] + 1) % 5
    adversarial = Refined(BPDA(DDN("l2", steps=5)))(counted, images, wrong)
    assert torch.equal(adversarial[:2], images[:2])
    assert counted.forwards[:2].tolist() == [1, 1]
    assert Refined(DDN("l2")).norm == "l2"


def test_an_image_alone_is_as_in_a_batch():
    model, images, labels = binary(4)
    attack, numbers = Refined(BPDA(DDN("l2"))), Randomness(5, torch.arange(len(images)))
    together = attack(model, images, labels, generator=numbers)
    for i in (0, len(images) - 1):
        alone = attack(
            model, images[i : i + 1], labels[i : i + 1], generator=numbers.select(torch.tensor([i]))
        )
        assert torch.allclose(alone[0], together[i], atol=1e-6)
