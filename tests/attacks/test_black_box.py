"""The audit attack on models without gradients: random search, estimates and decisions."""

import pytest
import torch
from linear import boxed_optimum
from torch import nn

import scotoma
from scotoma.attacks.adaptive.adapted import Adapted
from scotoma.attacks.adaptive.plan import BLIND, Plan, make_plan
from scotoma.attacks.adaptive.views import View, Viewed
from scotoma.attacks.single_step import FGSM
from scotoma.models.black_box import BlackBox
from scotoma.threat import Threat
from scotoma.utils.random import Randomness

THREAT = Threat("linf", 0.1)


@pytest.fixture
def images(digits):
    return digits.test.images(torch.arange(24)), digits.test.labels[:24]


def test_the_plan_of_a_black_box(linear, images):
    box = BlackBox(lambda x: linear(x).numpy())
    x, labels = images
    plan = make_plan(box, x, labels, THREAT, Randomness.default(x))
    assert plan.blind
    assert not plan.clean
    assert str(plan) == (
        "Attacks use random search, gradients estimated from answers along 32 directions, and "
        "decisions, because the model is a black box."
    )
    assert Plan.from_json(plan.as_json()) == plan


def test_the_plan_of_a_module_that_leaves_torch(linear, images):
    class Left(nn.Module):
        def forward(self, x):
            return torch.from_numpy(linear(x.detach()).numpy())

    x, labels = images
    plan = make_plan(Left(), x, labels, THREAT, Randomness.default(x))
    assert plan.blind
    assert "the gradient is cut" in plan.mechanisms


def test_few_values_are_all_tried(linear, images):
    """More directions than values: the estimate is the gradient."""
    x, labels = images
    exact = FGSM(THREAT)(linear, x, labels)
    box = BlackBox(lambda x: linear(x).numpy())
    estimated = Viewed(FGSM(THREAT), View("estimate", draws=64))(box, x, labels)
    assert float(((exact - x).sign() == (estimated - x).sign()).float().mean()) > 0.99


@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.slow)])
def test_answers_find_what_gradients_find(linear, images, norm):
    x, labels = images
    correct = linear(x).argmax(1) == labels
    x, labels = x[correct], labels[correct]
    threat = Threat(norm, {"linf": 0.1, "l2": 0.5}[norm])
    box = BlackBox(lambda x: linear(x).numpy())
    adversarial = Adapted(threat, plan=Plan((BLIND,)))(box, x, labels)
    with torch.no_grad():
        moved = (adversarial != x).flatten(1).any(1)
        assert bool((linear(adversarial[moved]).argmax(1) != labels[moved]).all())
    assert bool(moved.all())
    delta = (adversarial - x).flatten(1).double()
    if norm == "linf":
        best, size = boxed_optimum(linear, x, labels), delta.abs().amax(1)
    else:
        strong = scotoma.attacks.Strong(threat)(linear, x, labels)
        best, size = (strong - x).flatten(1).double().norm(dim=1), delta.norm(dim=1)
    assert bool((size >= best - 1e-4).all())
    assert float((size / best).median()) < 1.25
    within, reachable = size <= threat.eps + 1e-6, best <= threat.eps
    assert int((reachable & ~within).sum()) <= 2


@pytest.mark.usefixtures("undrawn")
def test_an_audit_of_a_black_box(linear, digits):
    """The same claim with and without gradients; what needs them does not apply."""
    probes = ["robustness", "inequality", "masking"]
    box = scotoma.audit(lambda x: linear(x).numpy(), digits, "linf:0.1", probes=probes, limit=20)
    with_gradients = scotoma.audit(linear, digits, "linf:0.1", probes=["robustness"], limit=20)
    rates = [each["robustness"].numbers["attack_success"] for each in (box, with_gradients)]
    assert rates[0] == pytest.approx(rates[1], abs=1.01 / 18)
    assert "exact gradient alone" not in box["robustness"].headline
    assert "because the model is a black box" in box.provenance["plan"]
    for name in ("inequality", "masking"):
        assert box[name].verdict == "not applicable"
        assert "The model is a black box" in box[name].headline


@pytest.mark.usefixtures("undrawn")
def test_an_attack_by_name_estimates_along_few_directions(monkeypatch):
    """3 x 14 x 14 = 588 values take 64 directions, not 1176 passes a step."""
    passes = 0
    weight = torch.randn(588, 3, generator=torch.Generator().manual_seed(0))

    def answer(x):
        nonlocal passes
        passes += len(x)
        return (x.flatten(1) @ weight).numpy()

    images = torch.rand(8, 3, 14, 14)
    labels = (images.flatten(1) @ weight).argmax(1)
    data = (images, labels)
    report = scotoma.audit(answer, data, "linf:0.05", probes=["robustness"], attack="fgsm")
    assert report["robustness"].numbers["attack_success"] > 0
    assert passes < 8 * 400
