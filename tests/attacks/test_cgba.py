"""CGBA: closed forms on linear models, its guarantees, and the attack that it improves on."""

from __future__ import annotations

import torch
from decisions import l2_optimum, problem
from trained import correct_digits

from scotoma.attacks.cgba import CGBA
from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.hop_skip_jump import HopSkipJump


def test_comes_near_the_optimum_of_linear_models():
    model, images, labels = problem(20, classes=2)
    adversarial = CGBA("l2", queries=1500)(model, images, labels)
    ratio = size(adversarial - images, "l2") / l2_optimum(model, images, labels)
    assert fooled(model(adversarial), labels).all()
    assert ratio.min() > 1 - 1e-4
    assert ratio.mean() < 1.06


def test_nearer_than_jumps_after_equally_many_queries():
    model, images, labels = correct_digits(20)
    ours, theirs = (
        size(attack("l2", queries=1000)(model, images, labels) - images, "l2").mean()
        for attack in (CGBA, HopSkipJump)
    )
    assert ours < theirs


def test_begins_at_the_start():
    model, images, labels = problem(8)
    start = CGBA("l2", queries=500)(model, images, labels)
    on = CGBA("l2", queries=400)(model, images, labels, start=start)
    assert (size(on - images, "l2") <= size(start - images, "l2") + 1e-6).all()
    assert size(on - images, "l2").sum() < size(start - images, "l2").sum()
    nowhere = CGBA("l2", queries=400)(model, images, labels, start=images)
    assert torch.equal(nowhere, images)
