"""Iterated single steps: the rule of each, and what leaving early means."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from linear import linear_model
from torch import nn
from trained import digits_images, digits_model

from scotoma.attacks import ATTACKS
from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.iterative import IFGSM, MIM, IterLL
from scotoma.attacks.single_step import FGSM
from scotoma.threat import TOLERANCE, Threat

LINF, L2 = Threat("linf", 0.2), Threat("l2", 1.0)
NAMES = ["ifgsm", "iter-ll", "mim"]


@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
def test_ifgsm_is_the_loop_of_the_paper(threat: Threat):
    model, (images, labels) = digits_model(), digits_images(15)
    x = images
    for _ in range(4):
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(
            F.cross_entropy(model(leaf), labels, reduction="sum"), leaf
        )
        x = threat.project(x + threat.steepest(gradient) / 4, images)
    assert torch.allclose(
        IFGSM(threat, steps=4, until_fooled=False)(model, images, labels), x, atol=1e-5
    )


def test_iter_ll_keeps_the_class_that_was_least_likely_at_first():
    """It approaches that class even if another class becomes the least likely on the path."""
    model, (images, labels) = digits_model(), digits_images(40)
    with torch.no_grad():
        aim = model(images).argmin(1)
        far = IterLL(Threat("linf", 0.6), steps=20, until_fooled=False)(model, images, labels)
        assert (model(far).argmax(1) == aim).float().mean() > 0.8


def test_momentum_adds_up_normalised_gradients():
    """Gradients of a linear two-class model are parallel: MIM is I-FGSM."""
    model = linear_model((1, 5, 5), 2)
    images = torch.rand((6, 1, 5, 5), generator=torch.Generator().manual_seed(0))
    labels = model(images).argmax(1)
    momentum, plain = (
        kind(LINF, until_fooled=False)(model, images, labels) for kind in (MIM, IFGSM)
    )
    assert torch.allclose(momentum, plain, atol=1e-6)
    model, (images, labels) = digits_model(), digits_images(30)
    plain = IFGSM(LINF, until_fooled=False)(model, images, labels)
    assert torch.allclose(
        MIM(LINF, decay=0.0, until_fooled=False)(model, images, labels), plain, atol=1e-6
    )
    assert not torch.allclose(
        MIM(LINF, until_fooled=False)(model, images, labels), plain, atol=1e-3
    )


def test_one_step_is_fgsm():
    model, (images, labels) = digits_model(), digits_images(20)
    assert torch.allclose(
        IFGSM(LINF, steps=1, until_fooled=False)(model, images, labels),
        FGSM(LINF)(model, images, labels),
        atol=1e-6,
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("threat", [LINF, L2], ids=str)
def test_contract(name: str, threat: Threat):
    model, (images, labels) = digits_model(), digits_images(80)
    counted = Counted(model, 80, images.device)
    adversarial = ATTACKS[name](threat)(counted, images, labels)
    change = (adversarial - images).flatten(1)
    assert (
        change.abs().amax(1) if threat.norm == "linf" else change.norm(dim=1)
    ).max() <= threat.eps + TOLERANCE
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    wrong, won = fooled(model(images), labels), fooled(model(adversarial), labels)
    assert torch.equal((adversarial != images).flatten(1).any(1), won & ~wrong), (
        "unchanged where wrong already or not fooled"
    )
    assert (won & ~wrong).any()
    assert counted.backwards[~won].unique().tolist() == [10]
    assert counted.backwards[won].max() <= 10
    assert counted.backwards[won].float().mean() < 10, "fooled images left"


@pytest.mark.parametrize("name", NAMES)
def test_all_steps_when_it_must_not_stop(name: str):
    model, (images, labels) = digits_model(), digits_images(20)
    counted = Counted(model, 20, images.device)
    last = ATTACKS[name](LINF, until_fooled=False)(counted, images, labels)
    assert counted.backwards.tolist() == [10] * 20
    assert (last != images).flatten(1).any(1).all()
    early = ATTACKS[name](LINF)(model, images, labels)
    assert (fooled(model(last), labels).sum() >= fooled(model(early), labels).sum() - 1).item()


def test_gradients_that_are_zero_or_not_numbers():
    class Broken(nn.Module):
        def forward(self, images):
            return (images.flatten(1)[:, :10] * 0).sqrt()

    images, labels = digits_images(4)
    for name in NAMES:
        adversarial = ATTACKS[name](LINF)(Broken(), images, labels)
        assert torch.equal(adversarial, images)
