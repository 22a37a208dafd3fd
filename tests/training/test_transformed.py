"""Recipes that transform part of a batch, in balls of the right size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scotoma.threat import TOLERANCE, Threat
from scotoma.training.pool import Pool
from scotoma.training.transformed import FAMILIES, ComposedTraining, Patched, ShiftedTraining
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


def test_images_of_a_pool_join_every_batch_with_their_labels(grey, linear_grey):
    images, labels = grey.test.images(torch.arange(20)), grey.test.labels[:20]
    generator = torch.Generator().manual_seed(0)
    levels = torch.linspace(0.2, 0.8, 50)
    pool = Pool(
        levels.view(-1, 1, 1, 1).expand(-1, *images.shape[1:]).clone(),
        labels[:1].repeat(50),
        "greys",
    )
    rows = {row for _ in range(30) for row in pool.drawn(5, generator)[0][:, 0, 0, 0].tolist()}
    assert len(rows) > 40
    model = Recorder(linear_grey)
    loss = Patched(THREAT, (), pool)(model, images, labels, 0.9, torch.Generator().manual_seed(0))
    stay, joined = model.seen
    assert len(stay) == 20
    assert len(joined) == 5
    assert distance(joined, joined.mean((1, 2, 3), keepdim=True)) <= 2 * THREAT.eps + TOLERANCE
    alone = Patched(THREAT, ())(linear_grey, images, labels, 0.9, torch.Generator().manual_seed(0))
    of_pool = nn.functional.cross_entropy(linear_grey(joined), labels[:1].repeat(5))
    torch.testing.assert_close(loss, 0.8 * alone + 0.2 * of_pool, rtol=1e-3, atol=0)


def test_a_pool_is_named_by_its_content():
    images, labels = torch.zeros(2, 1, 4, 4), torch.tensor([0, 1])
    named = repr(Pool(images, labels, "images of a flow"))
    assert named == repr(Pool(images.clone(), labels.clone(), "images of a flow"))
    assert named != repr(Pool(images, labels.flip(0), "images of a flow"))


@pytest.mark.parametrize("kind", [ShiftedTraining, ComposedTraining])
def test_groups_have_changes_of_their_own_and_balls_that_shrink_with_them(
    grey, linear_grey, monkeypatch, kind: type[ShiftedTraining]
):
    images, labels = grey.test.images(torch.arange(20)), grey.test.labels[:20]
    drawn, draw = [], kind.change

    def drawing(recipe, generator):
        drawn.append(draw(recipe, generator))
        return drawn[-1]

    monkeypatch.setattr(kind, "change", drawing)
    model, generator = Recorder(linear_grey), torch.Generator().manual_seed(0)
    kind(THREAT, groups=4, steps=5)(model, images, labels, 0.9, generator)
    assert len(model.seen) == 4
    assert len({change.contrast for change in drawn}) == 3
    stay, *moved = model.seen
    assert 0.9 * THREAT.eps < distance(stay, images[:5]) <= THREAT.eps + TOLERANCE
    for number, (seen, change) in enumerate(zip(moved, drawn, strict=True), start=1):
        eps = change.contrast * THREAT.eps
        rows = slice(5 * number, 5 * number + 5)
        assert 0.9 * eps < distance(seen, change(images[rows])) <= eps + TOLERANCE


def test_shifts_stay_inside_and_some_keep_white_or_black():
    generator = torch.Generator().manual_seed(0)
    drawn = [ShiftedTraining(THREAT, lowest=0.5).drawn(generator) for _ in range(300)]
    ends = [abs(shift.beta) - (1 - shift.alpha) / 2 for shift in drawn]
    assert max(ends) < 1e-9
    assert 0.2 < sum(abs(end) < 1e-9 for end in ends) / 300 < 0.4
    assert min(shift.alpha for shift in drawn) < 0.52
    assert max(shift.alpha for shift in drawn) > 0.98
    assert min(shift.beta for shift in drawn) < 0 < max(shift.beta for shift in drawn)


def test_one_image_is_a_batch(grey, linear_grey):
    images, labels = grey.test.images(torch.arange(1)), grey.test.labels[:1]
    loss = ShiftedTraining(THREAT)(linear_grey, images, labels, 0.5, torch.Generator())
    assert loss > 0


def test_every_family_takes_part_and_contrast_comes_last():
    generator = torch.Generator().manual_seed(0)
    drawn = [ComposedTraining(THREAT, lowest=0.6).change(generator) for _ in range(100)]
    assert all(isinstance(change.parts[-1], ScaleShift) for change in drawn)
    kinds = [{type(part).__name__ for part in change.parts[:-1]} for change in drawn]
    named = {"Rotate", "Translate", "Blur", "Gamma", "Texture"}
    assert set.union(*kinds) == named
    assert len(FAMILIES.parts) == len(named)
    for name in named:
        assert 30 < sum(name in each for each in kinds) < 70
    assert min(change.contrast for change in drawn) < 0.6
    shifts = [part for change in drawn for part in change.parts if isinstance(part, ScaleShift)]
    assert 0.3 < sum(s.beta > (1 - s.alpha) / 2 - 1e-9 for s in shifts) / 100 < 0.6
