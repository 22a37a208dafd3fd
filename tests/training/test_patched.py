"""Training on blind spots: which images it learns from, and in which balls."""

from __future__ import annotations

import torch
from torch import nn

from scotoma.claim import TOLERANCE, Threat
from scotoma.training.transformed import Patched
from scotoma.transforms.gamma import Gamma
from scotoma.transforms.scale_shift import ScaleShift

THREAT = Threat("linf", 0.1)


class Recorder(nn.Module):
    """A model that remembers the last images of every pass without a gradient by its input."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.seen: list[torch.Tensor] = []

    def forward(self, images):
        if not images.requires_grad:
            self.seen.append(images)
        return self.module(images)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item()


def test_half_of_the_batch_is_moved_and_its_ball_shrinks_with_the_contrast(grey, linear_grey):
    images, labels = grey.test.images(torch.arange(20)), grey.test.labels[:20]
    spot = ScaleShift(0.7, 0.1)
    model = Recorder(linear_grey)
    Patched(THREAT, (spot,), steps=5)(model, images, labels, 0.9, torch.Generator().manual_seed(0))
    stay, moved = model.seen
    assert 0.9 * THREAT.eps < distance(stay, images[10:]) <= THREAT.eps + TOLERANCE
    assert (
        0.9 * 0.7 * THREAT.eps < distance(moved, spot(images[:10])) <= 0.7 * THREAT.eps + TOLERANCE
    )


def test_the_ball_around_moved_images_grows_and_the_other_does_not(grey, linear_grey):
    images, labels = grey.test.images(torch.arange(20)), grey.test.labels[:20]
    spot = Gamma(0.8)
    model = Recorder(linear_grey)
    Patched(THREAT, (spot,), warmup=0.4)(
        model, images, labels, 0.1, torch.Generator().manual_seed(0)
    )
    stay, moved = model.seen
    assert distance(stay, images[10:]) > 0.9 * THREAT.eps
    assert distance(moved, spot(images[:10])) <= THREAT.eps / 4 + TOLERANCE


def test_every_spot_is_drawn_and_the_loss_is_the_mean_of_the_batch(grey, linear_grey):
    images, labels = grey.test.images(torch.arange(8)), grey.test.labels[:8]
    spots = (ScaleShift(0.9, 0.0), ScaleShift(0.8, 0.1), ScaleShift(0.7, 0.0))
    generator, model = torch.Generator().manual_seed(0), Recorder(linear_grey)
    recipe = Patched(Threat("linf", 1e-6), spots, share=0.25)
    drawn = set()
    for _ in range(30):
        model.seen.clear()
        loss = recipe(model, images, labels, 0.9, generator)
        stay, moved = model.seen
        assert (len(stay), len(moved)) == (6, 2)
        drawn |= {spot for spot in spots if distance(moved, spot(images[:2])) < 1e-4}
        together = torch.cat([moved, stay])
        expected = nn.functional.cross_entropy(linear_grey(together), labels)
        assert torch.isclose(loss, expected, atol=1e-5)
    assert drawn == set(spots)
