"""Distributionally robust training."""

from __future__ import annotations

import torch
from torch import nn

from scotoma.certificates.wasserstein import losses, transport
from scotoma.claim import Threat
from scotoma.training.certified import WRM


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
