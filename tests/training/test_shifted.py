"""Training at random contrasts: which images it learns from, and in which balls."""

from __future__ import annotations

import pytest
import torch
from test_patched import Recorder, distance

from scotoma.claim import TOLERANCE, Threat
from scotoma.training.transformed import ComposedTraining, ShiftedTraining

THREAT = Threat("linf", 0.1)


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
