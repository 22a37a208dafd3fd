"""The L2 search: closed form on linear models, its own guarantees, and DDN at equal cost."""

from __future__ import annotations

import pytest
from decisions import l2_optimum, problem
from trained import digits_images, digits_model

from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.ddn import DDN
from scotoma.attacks.min_l2 import MinL2

SHORT = MinL2("l2", steps=100, restarts=2, restart_steps=20)


@pytest.mark.parametrize("shape", [(1, 10, 10), (3, 6, 6)])
def test_reaches_the_optimum_of_linear_models_inside_the_box(shape: tuple[int, int, int]):
    model, images, labels = problem(12, shape)
    adversarial = MinL2("l2")(model, images, labels)
    ratio = size(adversarial - images, "l2") / l2_optimum(model, images, labels)
    assert fooled(model(adversarial), labels).all()
    assert ratio.min() > 1 - 1e-4
    assert ratio.mean() < 1.002


def test_nearer_than_ddn_at_the_same_cost():
    model, (images, labels) = digits_model(), digits_images(30)
    right = ~fooled(model(images), labels)
    counts, distances = [], []
    for attack in (MinL2("l2"), DDN("l2", steps=240)):
        counted = Counted(model, len(images), images.device)
        distances.append(size(attack(counted, images, labels) - images, "l2")[right])
        counts.append((counted.forwards + counted.backwards)[right].float().mean())
    assert counts[0] <= counts[1] + 4
    assert distances[0].min() > 0
    assert distances[0].mean() < 0.995 * distances[1].mean()


def test_images_leave_once_they_are_near_enough():
    model, (images, labels) = digits_model(), digits_images(30)
    full, short = (Counted(model, len(images), images.device) for _ in range(2))
    smallest = size(MinL2("l2")(full, images, labels) - images, "l2")
    until = float(smallest.median())
    stopped = size(MinL2("l2", until=until)(short, images, labels) - images, "l2")
    assert short.forwards.sum() < 0.8 * full.forwards.sum()
    assert ((stopped < until) == (smallest < until)).float().mean() > 0.9
    assert (short.forwards[stopped >= until] == full.forwards[stopped >= until]).all()


def test_the_passes_that_order_the_classes_come_out_of_the_steps():
    model, images, labels = problem(8)
    for restarts in (0, 1, 2, 5):
        counted = Counted(model, len(images), images.device)
        MinL2("l2", steps=60, restarts=restarts, restart_steps=5)(counted, images, labels)
        searches = 1 + restarts  # each ends with a forward pass
        assert (counted.forwards + counted.backwards <= 2 * 60 + searches + 1).all()
        assert (counted.forwards + counted.backwards >= 2 * 60 + searches).all()
