"""Random search: gradient-free, inside the ball, and able where gradients lie."""

from __future__ import annotations

import pytest
import torch
from decisions import Quantised, l2_optimum, problem
from linear import boxed_optimum, linear_model, saturated_images
from torch import Tensor, nn
from trained import correct_digits, digits_images, digits_model

from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.min_l2 import MinL2
from scotoma.attacks.pgd import PGD
from scotoma.attacks.square import Square
from scotoma.attacks.square_l2 import Masses, pyramids
from scotoma.threat import TOLERANCE, Threat
from scotoma.utils.random import Randomness


def test_breaks_linear_models_a_little_above_the_optimum_and_never_below():
    model, images = linear_model((1, 6, 6), 3, 0), saturated_images(30, (1, 6, 6), 0)
    labels = model(images).argmax(1)
    optimum = boxed_optimum(model, images, labels)
    for factor, most, least in ((0.99, 0, 0), (1.3, 1, 1)):
        for row in range(2):
            threat = Threat("linf", min(1.0, max(1e-4, factor * float(optimum[row]))))
            one, label = images[row : row + 1], labels[row : row + 1]
            adversarial = Square(threat, queries=800)(model, one, label)
            assert least <= int(fooled(model(adversarial), label)) <= most


def test_breaks_linear_models_above_the_optimum_in_l2_and_never_below():
    model, images, labels = problem(10)
    optimum = l2_optimum(model, images, labels)
    for eps, share in ((0.99 * optimum.min(), 0), (1.6 * optimum.max(), 1)):
        adversarial = Square(Threat("l2", float(eps)), queries=600)(model, images, labels)
        assert fooled(model(adversarial), labels).float().mean() == share


@pytest.mark.parametrize("text", ["linf:0.2", "l2:0.8"])
def test_asks_for_no_gradient_and_stays_inside(text: str):
    model = digits_model()
    images, labels = digits_images(80)
    threat = Threat.parse(text)
    counted = Counted(model, len(images), images.device)
    adversarial = Square(threat, queries=300)(counted, images, labels)
    assert counted.backwards.sum() == 0
    assert counted.forwards.max() <= 301 * 4 / 3
    assert size(adversarial - images, threat.norm).max() <= threat.eps + TOLERANCE
    assert ((adversarial >= 0) & (adversarial <= 1)).all()
    success = fooled(model(adversarial), labels)
    assert torch.equal(adversarial[~success], images[~success])
    assert 0 < success.float().mean() < 1
    assert torch.equal(
        adversarial,
        Square(threat, queries=300)(model, images, labels, generator=Randomness.default(images)),
    )


@pytest.mark.parametrize("text", ["linf:0.2", "l2:0.8"])
def test_proposals_ahead_change_nothing(text: str, monkeypatch: pytest.MonkeyPatch):
    model, (images, labels) = digits_model(), digits_images(20)
    ahead = Square(text, queries=400)(model, images, labels)
    monkeypatch.setattr("scotoma.attacks.core.search.AHEAD", 1)
    counted = Counted(model, len(images), images.device)
    assert torch.equal(ahead, Square(text, queries=400)(counted, images, labels))
    assert counted.forwards.max() <= 401


def test_an_empty_batch_never_reaches_the_model():
    class Zero(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            assert len(images)
            return torch.tensor([1.0, 0.0]).expand(len(images), -1)

    images, wrong = torch.rand(3, 1, 4, 4), torch.ones(3, dtype=torch.int64)
    assert torch.equal(Square("linf:0.1", queries=5)(Zero(), images, wrong), images)


def test_a_zero_gradient_stops_pgd_but_not_square():
    model = Quantised(digits_model())
    images, labels = digits_images(30)
    threat = Threat("linf", 0.25)
    right = ~fooled(model(images), labels)

    def broken(adversarial: Tensor) -> float:
        return float((fooled(model(adversarial), labels) & right).float().mean())

    blind = broken(PGD(threat, restarts=1)(model, images, labels))
    assert broken(Square(threat, queries=500)(model, images, labels)) > blind + 0.1


@pytest.mark.parametrize("text", ["linf:0.2", "l2:0.8"])
def test_an_image_does_not_depend_on_its_batch_nor_on_its_layout(text: str):
    model, (images, labels) = digits_model(), digits_images(12)
    together = Square(text, queries=100)(model, images, labels)
    order = torch.arange(12).flip(0)
    turned = Square(text, queries=100)(
        model,
        images[order].contiguous(memory_format=torch.channels_last),
        labels[order],
        generator=Randomness(0, order),
    )
    assert torch.allclose(turned, together[order], atol=1e-6)


def test_a_start_is_projected_into_the_ball_and_used():
    model, images, labels = correct_digits(60)
    far = MinL2("l2", 60, restart_steps=10)(model, images, labels)
    threat = Threat("l2", 1.02 * float(size(far - images, "l2").median()))
    within = size(far - images, "l2") < threat.eps
    once = Square(threat, queries=1)(model, images, labels, start=far)
    assert torch.allclose(once[within], far[within], atol=1e-6)
    assert size(once - images, "l2").max() <= threat.eps + TOLERANCE


def test_pyramids_are_those_of_the_paper():
    pair, turned = pyramids(5, torch.zeros(1))
    assert torch.equal(turned, pair.T)
    assert torch.isclose(pair.norm(), torch.tensor(1.0))
    assert (pair[:2] > 0).all()
    assert (pair[2:] < 0).all()
    steps = pair[3].flip(0) / pair[3, 0]  # with n = 2: 1/9, 1/9 + 1/4, 1/9 + 1/4 + 1
    peak, foot = 1 + 1 / 4 + 1 / 9, 1 / 9
    assert torch.allclose(steps, torch.tensor([1, 13 / 4, peak / foot, 13 / 4, 1]))


def test_a_change_moves_mass_between_two_windows_only():
    clean = torch.full((40, 2, 12, 12), 0.5)
    masses = Masses(clean, eps=1.0)
    x = masses.start(Randomness.default(clean))
    proposal = masses.propose(x, torch.rand(40, masses.chances), side=3)
    assert torch.allclose(size(x - clean, "l2"), torch.ones(40))
    assert torch.allclose(size(proposal - clean, "l2"), torch.ones(40))
    changed = (proposal - x).abs().amax(1).flatten(1) > 1e-6
    assert (changed.sum(1) <= 18).all()
    assert (changed.sum(1) >= 9).all()


def test_more_often_in_l2_than_another_implementation():
    torchattacks = pytest.importorskip("torchattacks")
    model, images, labels = correct_digits(60)
    peer = torchattacks.Square(model, norm="L2", eps=0.7, n_queries=200)
    ours = Square("l2:0.7", queries=200)(model, images, labels)
    theirs, ours = (fooled(model(x), labels).sum() for x in (peer(images, labels), ours))
    assert 0 < theirs < ours


def test_colour_images_in_another_layout():
    images = torch.rand(3, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    attack = Square("linf:0.1", queries=3)
    after = attack(model, images, torch.arange(3))
    assert torch.equal(after, attack(model, images.contiguous(), torch.arange(3)))
