"""Training with one answer to two changes: what its loss is made of."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from scotoma.threat import Threat
from scotoma.training.consistent import ConsistentTraining, divergence
from scotoma.training.transformed import ComposedTraining

THREAT = Threat("linf", 0.1)


def batch():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    return model, torch.rand(12, 1, 8, 8), torch.arange(12) % 3


def test_the_divergence_is_symmetric_and_at_most_that_of_certain_opposites():
    first, second = torch.randn(2, 5, 4)
    assert divergence(first, second) > 0
    assert divergence(first, second) == pytest.approx(divergence(second, first).item(), rel=1e-5)
    sure = torch.tensor([[200.0, 0.0]])
    assert divergence(sure, sure.flip(1)).item() == pytest.approx(math.log(2), rel=1e-5)
    p, q = torch.tensor([[0.7, 0.3]]), torch.tensor([[0.2, 0.8]])
    m = (p + q) / 2
    by_hand = ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2
    assert divergence(p.log(), q.log()).item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_the_weight_counts_the_divergence_and_nothing_else():
    model, images, labels = batch()
    losses = [
        ConsistentTraining(THREAT, weight=weight)(
            model, images, labels, 0.9, torch.Generator().manual_seed(1)
        ).item()
        for weight in (0.0, 1.0, 2.0)
    ]
    assert losses[0] < losses[1] < losses[2]
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-3)


def test_an_unchanged_image_is_among_the_pairs_and_labels_follow_their_images():
    """A model that knows each class by its mean pixel sees labels in the order of the images."""
    seen = []

    class Model(torch.nn.Module):
        def forward(self, images):
            seen.append(images.detach())
            return torch.stack([-((images.mean((1, 2, 3)) - c) ** 2) for c in (0.2, 0.5, 0.8)], 1)

    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    images = torch.tensor([0.2, 0.5, 0.8])[labels].view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    recipe = ConsistentTraining(Threat("linf", 1e-6), lowest=1.0, reach=0.0, weight=0.0)
    loss = recipe(Model(), images.clone(), labels, 0.9, torch.Generator().manual_seed(0))
    both = seen[-1]
    assert both.shape == (16, 1, 8, 8)
    expected = F.cross_entropy(Model()(images), labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_it_draws_the_changes_of_composed_training():
    drawn = ConsistentTraining(THREAT).change(torch.Generator().manual_seed(3))
    assert drawn == ComposedTraining(THREAT).change(torch.Generator().manual_seed(3))
