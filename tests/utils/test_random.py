"""An image's random numbers are its own: independent of split, order and batch, and random."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scotoma.utils.random import Randomness

SHAPE = (3, 5, 7)


def images(n: int) -> Tensor:
    return torch.zeros(n, *SHAPE)


def draws(seed: int, indices: Tensor, purpose: str = "", count: int = 2) -> Tensor:
    random = Randomness(seed, indices, purpose)
    return torch.stack([random.uniform(images(len(indices))) for _ in range(count)])


def test_numbers_follow_the_image_through_any_order_and_split():
    whole = draws(7, torch.arange(20))
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draws(7, order), whole[:, order])
    parts = [draws(7, part) for part in torch.arange(20).split([1, 7, 12])]
    assert torch.equal(torch.cat(parts, 1), whole)


@pytest.mark.parametrize(
    "keep", [torch.tensor([4, 0, 2]), torch.tensor([True, False, True, False, True])]
)
def test_narrowing_goes_on_where_the_stream_was(keep: Tensor):
    whole = draws(1, torch.arange(5))
    random = Randomness(1, torch.arange(5))
    random.uniform(images(5))
    narrowed = random.select(keep)
    assert torch.equal(narrowed.uniform(images(3)), whole[1][keep])


def test_narrowing_leaves_the_original_stream_alone():
    random = Randomness(1, torch.arange(5))
    random.select(torch.tensor([0])).uniform(images(1))
    assert torch.equal(random.uniform(images(5)), draws(1, torch.arange(5))[0])


def test_default_numbers_rows_from_zero():
    assert torch.equal(
        Randomness.default(images(3)).uniform(images(3)), draws(0, torch.arange(3))[0]
    )


def test_seed_purpose_image_and_draw_all_matter():
    base = draws(0, torch.arange(2))
    others = [
        draws(1, torch.arange(2))[0],
        draws(0, torch.arange(2), "other")[0],
        draws(0, torch.arange(2) + 2)[0],
        base[1],
    ]
    assert all((other == base[0]).float().mean() < 0.01 for other in others)
    assert (base[0, 0] == base[0, 1]).float().mean() < 0.01


@pytest.mark.parametrize("seed", [-1, 0, 2**63])
def test_any_seed_and_large_indices(seed: int):
    values = draws(seed, torch.tensor([0, 2**40, 2**62]))
    assert values.min() >= 0
    assert values.max() < 1


def test_uniform_numbers_fill_the_interval_evenly():
    values = draws(3, torch.arange(1000)).flatten()
    n = len(values)
    assert values.dtype == torch.float32
    counts = torch.histc(values, 20, 0, 1).double()
    chi_squared = float(((counts - n / 20) ** 2 / (n / 20)).sum())
    assert chi_squared < 43.8  # the 99.9% quantile for 19 degrees of freedom
    assert abs(float(values.double().mean()) - 0.5) < 4 / math.sqrt(12 * n)


def test_neighbouring_images_pixels_and_draws_are_uncorrelated():
    values = draws(3, torch.arange(1000)).flatten(2) - 0.5
    pairs = [
        (values[:, :-1], values[:, 1:]),
        (values[:, :, :-1], values[:, :, 1:]),
        (values[:1], values[1:]),
    ]
    for a, b in pairs:
        correlation = 12 * float((a * b).mean())
        assert abs(correlation) < 4 / math.sqrt(a.numel())


def test_normal_numbers_have_the_moments_of_a_standard_normal():
    values = Randomness(5, torch.arange(1000)).normal(images(1000)).double().flatten()
    n = len(values)
    assert values.isfinite().all()
    assert abs(float(values.mean())) < 4 / math.sqrt(n)
    assert abs(float(values.var()) - 1) < 4 * math.sqrt(2 / n)
    assert abs(float((values**4).mean()) - 3) < 4 * math.sqrt(96 / n)


def test_forks_differ_from_each_other_and_not_by_what_was_drawn_before():
    like = torch.zeros(3, 1, 4, 4)
    fresh, used = Randomness(0, torch.arange(3)), Randomness(0, torch.arange(3))
    used.uniform(like)
    assert torch.equal(fresh.fork(1).uniform(like), used.fork(1).uniform(like))
    assert not torch.equal(fresh.fork(1).uniform(like), fresh.fork(2).uniform(like))
    assert not torch.equal(fresh.fork(0).uniform(like), fresh.uniform(like))


def test_no_images_need_no_numbers():
    nothing = torch.zeros(0, 1, 3, 3)
    assert Randomness.default(nothing).uniform(nothing).shape == nothing.shape
