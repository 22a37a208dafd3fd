"""The boundary attack: closed form on linear models, guarantees, and another implementation."""

from __future__ import annotations

import pytest
import torch
from decisions import (
    Exact,
    Quantised,
    l2_optimum,
    problem,
)
from trained import correct_digits, digits_images, digits_model

from scotoma.attacks.boundary import Boundary
from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted


@pytest.mark.parametrize(
    ("shape", "queries", "factor"),
    [((1, 6, 6), 1500, 1.02), ((3, 5, 5), 2000, 1.07)],
)
def test_comes_near_the_optimum_of_linear_models(
    shape: tuple[int, int, int], queries: int, factor: float
):
    """Of two classes: with more, the nearest boundary is not the one that it is on."""
    model, images, labels = problem(8, shape, classes=2)
    adversarial = Boundary("l2", queries=queries)(model, images, labels)
    ratio = size(adversarial - images, "l2") / l2_optimum(model, images, labels)
    assert fooled(model(adversarial), labels).all()
    assert ratio.min() > 1 - 1e-4
    assert ratio.mean() < factor


def test_comes_near_the_optimum_where_the_box_is_far():
    """Nothing is cut off there, which would bring proposals nearer by itself."""
    model = Exact((1, 6, 6), 2)
    images = (
        torch.rand(20, 1, 6, 6, generator=torch.Generator().manual_seed(0)).mul_(0.02).add_(0.49)
    )
    labels = model(images).argmax(1)
    optimum = l2_optimum(model, images, labels)
    assert (
        optimum.max() < 0.45
    )  # no value is farther than that from where it began, and 0 and 1 are
    adversarial = Boundary("l2", queries=1500)(model, images, labels)
    ratio = size(adversarial - images, "l2") / optimum
    assert ratio.min() > 1 - 1e-3
    assert ratio.mean() < 1.02


def test_more_queries_come_nearer_and_the_tolerance_saves_some():
    model, images, labels = problem(8, classes=2)
    counted = {
        tolerance: Counted(model, len(images), images.device) for tolerance in (0.0, 0.03, 0.5)
    }
    ends = {
        tolerance: size(
            Boundary("l2", 1200, tolerance=tolerance)(each, images, labels) - images, "l2"
        )
        for tolerance, each in counted.items()
    }
    assert (
        size(Boundary("l2", queries=300)(model, images, labels) - images, "l2").mean()
        > 1.02 * ends[0.0].mean()
    )
    assert ends[0.0].mean() <= ends[0.03].mean() < 1.006 * ends[0.0].mean()
    assert ends[0.03].mean() < ends[0.5].mean()
    assert (counted[0.0].forwards >= 1199).all()  # a direction and its opposite together
    assert counted[0.0].forwards.max() <= 1200
    passes = {tolerance: each.forwards.float() for tolerance, each in counted.items()}
    assert passes[0.5].max() < passes[0.03].mean() < passes[0.0].mean()


def test_breaks_a_model_without_gradient():
    model, (images, labels) = Quantised(digits_model()), digits_images(40)
    right = ~fooled(model(images), labels)
    adversarial = Boundary("l2", queries=600)(model, images, labels)
    assert fooled(model(adversarial), labels)[right].all()
    assert torch.equal((adversarial != images).flatten(1).any(1), right)


def test_nearer_than_another_implementation_that_asks_three_times_as_often():
    foolbox = pytest.importorskip("foolbox")
    model, images, labels = correct_digits(8)
    peer = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    torch.manual_seed(0)
    _, theirs, won = foolbox.attacks.BoundaryAttack(steps=600)(peer, images, labels, epsilons=None)
    ours = Boundary("l2", queries=200)(model, images, labels)
    assert won.all()
    assert fooled(model(ours), labels).all()
    assert size(ours - images, "l2").median() < size(theirs - images, "l2").median()
