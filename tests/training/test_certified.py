"""Recipes that go with a certificate."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scotoma.attacks.pgd import PGD
from scotoma.certificates.wasserstein import losses, transport
from scotoma.models.mnist import wong_small
from scotoma.models.small_cnn import small_cnn
from scotoma.threat import Threat
from scotoma.training import certified
from scotoma.training.certified import WRM, Wong
from scotoma.utils.device import autocast
from scotoma.utils.errors import InputError

THREAT = Threat("linf", 0.1)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def batch(digits):
    return digits.train.images(torch.arange(60)), digits.train.labels[:60]


@pytest.fixture
def model(digits):
    torch.manual_seed(0)
    return wong_small(digits.shape, 10)


def test_no_image_in_the_ball_has_a_larger_loss(batch, model):
    images, labels = batch
    attacked = PGD(THREAT, steps=30)(model, images, labels)
    inside = torch.cat([attacked, images]).unflatten(0, (2, -1))
    worst = max(F.cross_entropy(model(part), labels).item() for part in inside)
    loss = Wong(THREAT, projections=None)(model, images, labels, 0.9, generator()).item()
    assert worst < loss < worst + 5


def test_eps_grows_from_a_tenth(monkeypatch, batch, model):
    images, labels = batch
    sizes = []

    def bound(network, images, labels, eps, *rest):
        sizes.append(eps)
        return torch.zeros(60, 10), torch.zeros(60, 10)

    monkeypatch.setattr(certified, "bound", bound)
    for progress in (0.0, 0.25, 0.5, 0.99):
        Wong(THREAT, warmup=0.5)(model, images, labels, progress, generator())
    assert sizes == pytest.approx([0.01, 0.055, 0.1, 0.1])


def test_projections_and_bf16_hardly_change_the_loss(batch, model):
    images, labels = batch
    exact = Wong(THREAT, projections=None)(model, images, labels, 0.9, generator()).item()
    assert Wong(THREAT, projections=501)(
        model, images, labels, 0.9, generator()
    ).item() == pytest.approx(exact, rel=0.05)
    with autocast(torch.device("cpu")):
        loss = Wong(THREAT)(model, images, labels, 0.9, generator())
    assert loss.item() == pytest.approx(exact, rel=0.1)
    loss.backward()
    assert all(
        weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters()
    )


def test_the_same_generator_gives_the_same_loss(batch, model):
    images, labels = batch
    first, again, other = (
        Wong(THREAT)(model, images, labels, 0.9, torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_a_network_that_the_bound_does_not_know_is_refused(digits, batch):
    images, labels = batch
    with pytest.raises(InputError, match="a layer MaxPool2d"):
        Wong(THREAT)(small_cnn(digits.shape, 10), images, labels, 0.9, generator())


def smooth(classes: int = 10) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ELU(), nn.Linear(32, classes))


def test_it_learns_from_the_transported_images_alone(digits):
    model = smooth()
    images, labels = digits.train.images(torch.arange(60)), digits.train.labels[:60]
    moved = transport(model, images, labels, 0.5, 4, 0.1)
    loss = WRM(Threat("linf", 0.1), gamma=0.5, steps=4)(
        model, images, labels, 0.5, torch.Generator()
    )
    assert torch.allclose(loss, losses(model(moved), labels, 0.1).mean())
    loss.backward()
    gradients = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    losses(model(moved), labels, 0.1).mean().backward()
    for gradient, weight in zip(gradients, model.parameters(), strict=True):
        assert weight.grad is not None
        assert torch.allclose(gradient, weight.grad, atol=1e-6)


def test_it_makes_the_worst_nearby_loss_smaller_than_natural_training_does(digits):
    images, labels = digits.train.images(torch.arange(600)), digits.train.labels[:600]
    worst = {}
    for name in ("wrm", "natural"):
        model = smooth()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        recipe = WRM(Threat("linf", 0.1), gamma=0.4)
        for _ in range(60):
            loss = (
                recipe(model, images, labels, 0.5, torch.Generator())
                if name == "wrm"
                else losses(model(images), labels).mean()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        tests, right = digits.test.images(torch.arange(200)), digits.test.labels[:200]
        found = transport(model, tests, right, 0.4)
        worst[name] = (
            (losses(model(found), right) - 0.4 * (found - tests).flatten(1).square().sum(1))
            .mean()
            .item()
        )
        assert (model(tests).argmax(1) == right).float().mean() > 0.85
    assert worst["wrm"] < 0.8 * worst["natural"]
