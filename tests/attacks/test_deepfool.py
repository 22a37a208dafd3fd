"""DeepFool: closed form on linear models, its own guarantees, and another implementation."""

from __future__ import annotations

import pytest
import torch
from decisions import l2_optimum, problem
from linear import boxed_optimum
from minimum_norm import nearest_boundary, open_problem
from torch import nn
from trained import correct_digits

from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.deepfool import DeepFool
from scotoma.threat import Threat

L2, LINF = Threat("l2", 1), Threat("linf", 0.3)
NORMS = pytest.mark.parametrize("threat", [L2, LINF], ids=["l2", "linf"])


@NORMS
@pytest.mark.parametrize("classes", [2, 6])
def test_one_step_is_exact_on_linear_models_where_the_box_is_far(threat: Threat, classes: int):
    model, images, labels = open_problem(20, (3, 4, 4), classes)
    optimum = nearest_boundary(model, images, labels, threat.norm)
    assert optimum.max() < 0.48
    counted = Counted(model, len(images), images.device)
    adversarial = DeepFool(threat.norm, returns=0)(counted, images, labels)
    ratio = size(adversarial - images, threat.norm) / optimum
    assert ratio.min() > 1 - 1e-4
    assert ratio.max() < 1.003
    assert counted.forwards.tolist() == [3 + 10] * len(images)
    assert counted.backwards.tolist() == [classes - 1] * len(images)


@pytest.mark.parametrize("shape", [(1, 10, 10), (3, 6, 6)])
def test_comes_near_the_l2_optimum_inside_the_box(shape: tuple[int, int, int]):
    model, images, labels = problem(40, shape)
    adversarial = DeepFool("l2")(model, images, labels)
    ratio = size(adversarial - images, "l2") / l2_optimum(model, images, labels)
    assert fooled(model(adversarial), labels).all()
    assert ratio.min() > 1 - 1e-4
    assert ratio.mean() < 1.01


def test_comes_near_the_linf_optimum_inside_the_box():
    model, images, labels = problem(40, (1, 10, 10))
    inner = model.model
    assert isinstance(inner, nn.Sequential)
    adversarial = DeepFool("linf")(model, images, labels)
    ratio = size(adversarial - images, "linf") / boxed_optimum(inner, images, labels)
    assert fooled(model(adversarial), labels).all()
    assert ratio.min() > 1 - 1e-4
    assert ratio.mean() < 1.03


def test_the_overshoot_costs_nothing():
    model, images, labels = open_problem(20)
    exact, far = (
        size(DeepFool("l2", overshoot=share)(model, images, labels) - images, "l2")
        for share in (0.0, 0.2)
    )
    assert torch.allclose(exact, far, rtol=2e-3)
    raw = size(DeepFool("l2", overshoot=0.2, halvings=0)(model, images, labels) - images, "l2")
    assert torch.allclose(raw, 1.2 * exact, rtol=2e-3)


def test_only_the_likeliest_classes_are_looked_at():
    """Class 1 is the second at the images, but shallow; class 2 is nearer."""
    model, images, _ = open_problem(20, classes=3)
    layer, labels = model.model[1], torch.zeros(len(images), dtype=torch.int64)
    assert isinstance(layer, nn.Linear)
    layer.weight.mul_(torch.tensor([[0], [0.2], [1]]))
    layer.bias.copy_(torch.tensor([0, -0.3, -0.5]) - layer.weight.sum(1) / 2)
    assert (model(images).argsort(1, descending=True) == torch.arange(3)).all()
    counted = {classes: Counted(model, len(images), images.device) for classes in (1, 2, 3)}
    none, one, two = (
        size(DeepFool("l2", classes=n, returns=0)(counted[n], images, labels) - images, "l2")
        for n in (1, 2, 3)
    )
    assert not none.any()
    assert counted[2].backwards.tolist() == [1] * len(images)
    assert counted[3].backwards.tolist() == [2] * len(images)
    assert one.mean() > 2 * two.mean() > 0


def test_images_without_a_gradient_leave_at_once():
    class Half(nn.Module):
        """Flat for images whose first value is 0."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return model(torch.where(images[:, :1, :1, :1] == 0, images.detach(), images))

    model, images, labels = open_problem(6)
    images[:2, 0, 0, 0] = 0
    labels = model(images).argmax(1)
    counted = Counted(Half(), 6, images.device)
    adversarial = DeepFool("l2")(counted, images, labels)
    assert torch.equal(adversarial[:2], images[:2])
    assert counted.forwards[:2].tolist() == [2, 2]
    assert fooled(model(adversarial), labels)[2:].all()


@NORMS
def test_returns_shorten_and_end_at_the_foot_of_the_perpendicular(threat: Threat):
    """On a curved boundary the nearest point's perturbation is normal to the boundary there."""

    class Bowl(nn.Module):
        """Class 1 outside an ellipsoid."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            away = (images - 0.5).flatten(1)
            height = 0.5 * (away @ curvature * away).sum(1) - 0.08
            return torch.stack([torch.zeros_like(height), height], 1)

    random = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(12, 12, generator=random)).Q
    curvature = turn @ torch.logspace(-1, 1, 12).diag() @ turn.T
    images = 0.5 + 0.03 * torch.randn(50, 3, 2, 2, generator=random)
    labels = torch.zeros(50, dtype=torch.int64)
    assert not fooled(Bowl()(images), labels).any()
    first, last = (
        DeepFool(threat.norm, returns=n)(Bowl(), images, labels) - images for n in (0, 30)
    )
    assert (size(last, threat.norm) <= size(first, threat.norm) * (1 + 1e-6)).all()

    def straightness(delta: torch.Tensor) -> torch.Tensor:
        slope = (images + delta - 0.5).flatten(1) @ curvature
        return torch.cosine_similarity(
            delta.flatten(1), slope.sign() if threat.norm == "linf" else slope
        )

    assert straightness(last).mean() > 0.995
    assert straightness(first).mean() < 0.98


def test_nearer_than_another_implementation_in_fewer_passes():
    foolbox = pytest.importorskip("foolbox")
    model, images, labels = correct_digits(100)
    for threat, kind in (
        (L2, foolbox.attacks.L2DeepFoolAttack),
        (LINF, foolbox.attacks.LinfDeepFoolAttack),
    ):
        theirs, ours = (Counted(model, len(images), images.device) for _ in range(2))
        peer = foolbox.PyTorchModel(theirs.eval(), bounds=(0, 1), device="cpu")
        _, other, won = kind(steps=50)(peer, images, labels, epsilons=None)
        far, near = (
            size(other - images, threat.norm),
            size(DeepFool(threat.norm)(ours, images, labels) - images, threat.norm),
        )
        assert won.all()
        assert near.min() > 0
        # pairs, since medians of 100 images differ by 3% with each processor's rounding of weights
        assert (near / far).log().mean().exp() < 0.985
        assert near.mean() < 0.985 * far.mean()
        assert (ours.forwards + ours.backwards).sum() < 0.7 * (
            theirs.forwards + theirs.backwards
        ).sum()
