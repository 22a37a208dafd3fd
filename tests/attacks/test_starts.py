"""Where walks along the boundary begin: near, on the way to another image."""

from __future__ import annotations

import pytest
import torch
from decisions import gives_up, keeps_its_promises, knows_no_batch, problem

from scotoma.attacks.core.initialization import FewPixels, Starts, other_image
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.path_search import Paths, retracted
from scotoma.threat import Threat
from scotoma.utils.random import Randomness

KINDS = [(Starts, "l2"), (Starts, "linf"), (FewPixels, "l0")]


@pytest.mark.parametrize(("kind", "norm"), KINDS)
def test_promises(kind: type[Paths], norm: str):
    attack = kind(norm)
    keeps_its_promises(attack, norm, 1 + attack.draws * 11)
    knows_no_batch(attack)
    gives_up(attack)


def test_other_images_are_of_many_kinds_and_in_range():
    images = torch.rand(30, 3, 12, 8, generator=torch.Generator().manual_seed(0))
    random = Randomness.default(images)
    uniform, salt, smooth, moved = (
        other_image(images, random.fork(number), number) for number in range(4)
    )
    for end in (uniform, salt, smooth, moved):
        assert end.shape == images.shape
        assert end.min() >= 0
        assert end.max() <= 1
    assert set(salt.unique().tolist()) == {0, 1}
    steps, rough = ((end[..., 1:] - end[..., :-1]).abs().mean() for end in (smooth, uniform))
    assert steps < 0.7 * rough
    # the same values elsewhere, all channels of a pixel together
    assert torch.equal(moved.flatten(2).sort(2).values, images.flatten(2).sort(2).values)
    assert torch.allclose(
        moved.sum(1).flatten(1).sort(1).values, images.sum(1).flatten(1).sort(1).values
    )
    assert (moved != images).flatten(1).any(1).float().mean() > 0.9


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_points_on_the_way(norm: str):
    _, images, _ = problem(10, (3, 4, 4))
    ends = torch.rand(images.shape, generator=torch.Generator().manual_seed(1))
    far = size(ends - images, norm)
    half = retracted(images, ends, far / 2, norm)
    assert torch.allclose(size(half - images, norm), far / 2)
    assert torch.allclose(retracted(images, ends, 2 * far, norm), ends)
    assert torch.equal(retracted(images, ends, 0 * far, norm), images)
    if norm == "linf":
        assert torch.equal(
            half,
            Threat("linf", 1)
            .project(ends.minimum(images + far[:, None, None, None] / 2), images)
            .maximum(half),
        )
        inside = (ends - images).abs() <= far[:, None, None, None] / 2
        assert torch.equal(half[inside], ends[inside])
