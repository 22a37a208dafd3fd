"""Single-step attacks against what they are on linear models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from linear import linear_model
from trained import digits_images, digits_model

from scotoma.attacks import ATTACKS
from scotoma.attacks.core.losses import margin
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.single_step import FGSM, RandFGSM, RandStepLL, StepLL
from scotoma.threat import TOLERANCE, Threat
from scotoma.utils.random import Randomness

SHAPE = (3, 6, 6)
THREATS = [Threat("linf", 0.1), Threat("l2", 0.7)]
NAMES = ["fgsm", "step-ll", "rand-fgsm", "rand-step-ll"]


def grey_images(n: int):
    """Far from black and white, so that no step is cut."""
    return 0.4 + 0.2 * torch.rand((n, *SHAPE), generator=torch.Generator().manual_seed(3))


def gradient(model, images, classes):
    leaf = images.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(model(leaf), classes, reduction="sum"), leaf)[0]


def unit(change, threat):
    if threat.norm == "linf":
        return change.sign()
    return change / change.flatten(1).norm(dim=1)[:, None, None, None]


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_fgsm_is_one_step_along_the_gradient(threat: Threat):
    model, images = linear_model(SHAPE, 5), grey_images(7)
    labels = model(images).argmax(1)
    step = FGSM(threat)(model, images, labels) - images
    assert torch.allclose(
        step, threat.eps * unit(gradient(model, images, labels), threat), atol=1e-6
    )


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_step_ll_goes_towards_the_least_likely_class(threat: Threat):
    model, images = linear_model(SHAPE, 5), grey_images(7)
    logits = model(images)
    step = StepLL(threat)(model, images, logits.argmax(1)) - images
    assert torch.allclose(
        step, -threat.eps * unit(gradient(model, images, logits.argmin(1)), threat), atol=1e-6
    )


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("kind", [RandFGSM, RandStepLL])
def test_a_random_step_of_half_comes_first(kind, threat: Threat):
    """A linear two-class model has one gradient: what remains of the step is the random part."""
    model, images = linear_model(SHAPE, 2), grey_images(40)
    labels = model(images).argmax(1)
    step = kind(threat)(model, images, labels, generator=Randomness(5, torch.arange(40))) - images
    direct = threat.eps * unit(gradient(model, images, labels), threat)
    random = step - direct / 2
    size = (
        random.flatten(1).abs().amax(1) if threat.norm == "linf" else random.flatten(1).norm(dim=1)
    )
    assert torch.allclose(size, torch.tensor(threat.eps / 2), atol=1e-5)
    assert abs(random.sign().mean()) < 0.05
    assert not torch.equal(random[0].sign(), random[1].sign())


def test_the_random_step_is_cut_to_the_range():
    model = linear_model(SHAPE, 4)
    images = torch.zeros((9, *SHAPE))
    labels = model(images + 0.01).argmax(1)
    inputs = []
    model.register_forward_hook(lambda _, args, __: inputs.append(args[0].detach().clone()))
    RandFGSM(Threat("linf", 0.2))(model, images, labels)
    assert inputs[0].min() == 0
    assert 0.3 < (inputs[0] > 0).float().mean() < 0.7


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_inside_ball_and_range_at_the_price_of_one_gradient(name: str, threat: Threat):
    model, (images, labels) = digits_model(), digits_images(60)
    counted = Counted(model, 60, images.device)
    adversarial = ATTACKS[name](threat)(
        counted, images, labels, generator=Randomness(0, torch.arange(60))
    )
    change = (adversarial - images).flatten(1)
    assert (
        change.abs().amax(1) if threat.norm == "linf" else change.norm(dim=1)
    ).max() <= threat.eps + TOLERANCE
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert counted.forwards.tolist() == [1] * 60
    assert counted.backwards.tolist() == [1] * 60
    nearer = (margin(model(adversarial), labels) > margin(model(images), labels)).float().mean()
    assert nearer > (0.6 if name.endswith("ll") else 0.9), (
        "the least likely class is not the nearest"
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_image_does_not_depend_on_its_batch(name: str):
    model, (images, labels) = digits_model(), digits_images(12)
    attack = ATTACKS[name](Threat("linf", 0.2))
    whole = attack(model, images, labels, generator=Randomness(7, torch.arange(12)))
    for i in (0, 5, 11):
        alone = attack(
            model, images[i : i + 1], labels[i : i + 1], generator=Randomness(7, torch.tensor([i]))
        )
        assert torch.allclose(whole[i], alone[0], atol=1e-6)


def test_another_loss_and_a_share_of_nothing():
    model, (images, labels) = digits_model(), digits_images(20)
    threat = Threat("linf", 0.1)
    assert torch.equal(
        RandFGSM(threat, alpha=0.0)(model, images, labels), FGSM(threat)(model, images, labels)
    )
    by_margin = replace(FGSM(threat), loss=margin)(model, images, labels)
    assert not torch.equal(by_margin, FGSM(threat)(model, images, labels))


def test_without_a_gradient_nothing_moves():
    class Steps(torch.nn.Module):
        def forward(self, images):
            return images.flatten(1).round()[:, :10]

    images, labels = digits_images(5)
    assert torch.equal(FGSM(Threat("l2", 0.5))(Steps(), images, labels), images)
