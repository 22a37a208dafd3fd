"""Provable training: a loss that no image in the ball exceeds."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scotoma.attacks.pgd import PGD
from scotoma.claim import Threat
from scotoma.models.mnist import wong_small
from scotoma.models.small_cnn import small_cnn
from scotoma.training import certified
from scotoma.training.certified import Wong
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
