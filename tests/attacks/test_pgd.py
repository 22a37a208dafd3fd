"""PGD against closed forms on linear models, and its own promises."""

from __future__ import annotations

import pytest
import torch
from linear import boxed_optimum, distance, linear_model, saturated_images
from torch import Tensor, nn
from trained import digits_images, digits_model

from scotoma.attacks.core.losses import fooled, margin
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.pgd import PGD
from scotoma.threat import TOLERANCE, Threat
from scotoma.utils.random import Randomness

SHAPE = (1, 8, 8)


def problem(n: int, classes: int = 10) -> tuple[nn.Sequential, Tensor, Tensor]:
    model, images = linear_model(SHAPE, classes), saturated_images(n, SHAPE)
    return model, images, model(images).argmax(1)


@pytest.mark.parametrize(("factor", "succeeds"), [(1.001, True), (0.999, False)])
def test_finds_the_optimum_between_two_classes(factor: float, succeeds: bool):
    model, images, labels = problem(12, classes=2)
    for image, label, optimum in zip(
        images, labels, boxed_optimum(model, images, labels).tolist(), strict=True
    ):
        adversarial = PGD(Threat("linf", factor * optimum))(model, image[None], label[None])
        assert bool(fooled(model(adversarial), label[None])) is succeeds


@pytest.mark.parametrize("factor", [0.999, 1.3])
def test_many_classes(factor: float):
    """The cross-entropy's direction is best for no class: only the lower bound is exact."""
    model, images, labels = problem(12)
    optimum = boxed_optimum(model, images, labels)
    threat = Threat("linf", factor * float(optimum.min() if factor < 1 else optimum.max()))
    won = fooled(model(PGD(threat, loss=margin)(model, images, labels)), labels)
    assert won.all() if factor > 1 else not won.any()


def test_results_lie_inside_ball_and_range_and_failures_are_unchanged():
    model, (images, labels) = digits_model(), digits_images(120)
    adversarial = PGD(Threat("linf", 0.15), steps=20)(model, images, labels)
    assert distance(adversarial, images).max() <= 0.15 + TOLERANCE
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    wrong, won = fooled(model(images), labels), fooled(model(adversarial), labels)
    assert torch.equal(distance(adversarial, images) > 0, won & ~wrong)
    assert (won & ~wrong).any()
    assert not won.all()


def test_passes():
    """Misclassified images cost one forward, withstanding ones all steps; fooled ones stop."""
    model, images, labels = problem(40)
    labels = labels.clone()
    labels[:5] = (labels[:5] + 1) % 10
    optimum = boxed_optimum(model, images, labels)
    eps = float(optimum[5:].median())
    counted = Counted(model, len(images), images.device)
    won = fooled(
        model(PGD(Threat("linf", eps), steps=10, restarts=3)(counted, images, labels)), labels
    )
    assert counted.forwards[:5].tolist() == [1] * 5
    assert counted.backwards[:5].tolist() == [0] * 5
    assert (~won).any()
    assert set(counted.forwards[~won].tolist()) == {1 + 3 * 11}
    assert set(counted.backwards[~won].tolist()) == {30}
    assert (counted.backwards[optimum < eps / 2] < 10).all()


def test_restarts_only_add_successes():
    model, (images, labels) = digits_model(), digits_images(100)
    one, five = (
        PGD(Threat("linf", 0.2), steps=3, restarts=n)(model, images, labels) for n in (1, 5)
    )
    first, more = fooled(model(one), labels), fooled(model(five), labels)
    assert not (first & ~more).any()
    assert more.sum() > first.sum()


def test_step_size_is_obeyed():
    """One step of eps / 10 ends within eps / 10 of its random start, which is the first draw."""
    model, images, labels = problem(8)
    eps, step_size = 0.5, 0.05
    start = Threat("linf", eps).project(
        images + eps * (2 * Randomness(0, torch.arange(8)).uniform(images) - 1), images
    )
    adversarial = PGD(Threat("linf", eps), steps=1, step_size=step_size)(model, images, labels)
    moved = distance(adversarial, images) > 0
    assert moved.any()
    assert distance(adversarial, start)[moved].max() <= step_size + TOLERANCE


def test_seed_decides():
    model, (images, labels) = digits_model(), digits_images(40)
    run = PGD(Threat("linf", 0.3), steps=10)
    results = [
        run(model, images, labels, generator=Randomness(seed, torch.arange(40), "test"))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_an_image_alone_is_as_in_a_batch():
    model, images, labels = problem(16)
    run = PGD(Threat("linf", float(boxed_optimum(model, images, labels).median())), steps=20)
    together = run(model, images, labels, generator=Randomness(3, torch.arange(16)))
    for i in range(16):
        alone = run(
            model, images[i : i + 1], labels[i : i + 1], generator=Randomness(3, torch.tensor([i]))
        )
        assert torch.allclose(alone[0], together[i], atol=1e-6)


def test_no_images_and_images_all_wrong():
    model, images, labels = problem(4)
    run = PGD(Threat("linf", 0.1))
    assert run(model, images[:0], labels[:0]).shape == (0, *SHAPE)
    assert torch.equal(run(model, images, (labels + 1) % 10), images)
