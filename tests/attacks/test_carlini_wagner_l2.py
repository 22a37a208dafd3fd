"""Carlini and Wagner's L2 attack: closed form, guarantees, and another implementation."""

from __future__ import annotations

import pytest
import torch
from decisions import Quantised, l2_optimum, problem
from minimum_norm import open_problem
from trained import correct_digits, digits_images, digits_model

from scotoma.attacks.carlini_wagner_l2 import CarliniWagnerL2
from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted

QUICK = CarliniWagnerL2("l2", iterations=60, searches=5, cold=3)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_comes_near_the_optimum_of_linear_models_whatever_the_scale_of_logits(scale: float):
    model, images, labels = problem(12, (1, 8, 8))
    for weight in model.parameters():
        weight.mul_(scale)
    counted = Counted(model, len(images), images.device)
    adversarial = CarliniWagnerL2("l2", searches=6)(counted, images, labels)
    ratio = size(adversarial - images, "l2") / l2_optimum(model, images, labels)
    assert fooled(model(adversarial), labels).all()
    assert ratio.min() > 1 - 1e-4
    assert ratio.mean() < 1.02
    assert counted.forwards.float().mean() < 400  # of 1,200: solves end when they stall
    assert torch.equal(counted.forwards, counted.backwards)


def test_comes_near_the_optimum_where_the_box_is_far_and_in_colour():
    model, images, labels = open_problem(10, (3, 4, 4), classes=5)
    adversarial = CarliniWagnerL2("l2", searches=7)(model, images, labels)
    ratio = size(adversarial - images, "l2") / l2_optimum(model, images, labels)
    assert ratio.min() > 1 - 1e-4
    assert ratio.mean() < 1.03


def test_more_searches_come_nearer():
    model, (images, labels) = digits_model(), digits_images(20)
    distances = [
        size(CarliniWagnerL2("l2", 0.01, 60, n)(model, images, labels) - images, "l2")
        for n in (2, 4, 6)
    ]
    few, more, most = (distance.where(distance > 0, torch.inf) for distance in distances)
    assert (more <= few).all()
    assert (most <= more).all()
    assert (most < 0.99 * few)[few.isfinite()].any()


def test_images_leave_when_their_searches_are_over_and_at_once_without_a_gradient():
    model, images, labels = problem(12)
    counted = Counted(model, len(images), images.device)
    QUICK(counted, images, labels)
    assert counted.forwards.unique().numel() > 3
    flat = Counted(Quantised(model), len(images), images.device)
    right = flat.model(images).argmax(1)
    assert torch.equal(CarliniWagnerL2("l2")(flat, images, right), images)
    assert flat.forwards.tolist() == flat.backwards.tolist() == [1] * len(images)


def test_saturated_pixels_move():
    model, images, labels = problem(12)
    moved = (QUICK(model, images, labels) - images).abs() > 1e-3
    for value in (0.0, 1.0):
        assert moved[images == value].float().mean() > 0.3


def test_nearer_than_another_implementation_with_as_many_steps():
    foolbox = pytest.importorskip("foolbox")
    model, images, labels = correct_digits(12)
    peer = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=5, steps=60)
    _, theirs, won = attack(peer, images, labels, epsilons=None)
    counted = Counted(model, len(images), images.device)
    near, far = (
        size(QUICK(counted, images, labels) - images, "l2"),
        size(theirs - images, "l2"),
    )
    far[~won] = torch.inf
    assert near.min() > 0
    assert counted.forwards.float().mean() <= 300  # the other spends 5 times 60 on every image
    assert near.median() < 0.99 * far.median()
