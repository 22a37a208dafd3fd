"""State of decision-based attacks: best images, partial queries, and seeds of repeated images."""

from __future__ import annotations

import pytest
import torch
from decisions import problem
from torch import Tensor

from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.core.search import Search
from scotoma.utils.random import Randomness


def begun(n: int) -> tuple[Search, Counted]:
    model, images, labels = problem(n, (3, 4, 4))
    counted = Counted(model, len(images), images.device)
    return Search.begin(counted, images, labels, Randomness.default(images)), counted


def test_keeps_only_what_is_nearer():
    search, _ = begun(4)
    rows = torch.arange(4)
    search.keep(rows, (search.clean + 0.2).clamp(0, 1), "l2", torch.full((4,), 0.2))
    first, distance = search.x.clone(), search.distance.clone()
    assert torch.equal(distance, (first - search.clean).flatten(1).norm(dim=1))
    search.keep(rows[1:], 1 - search.clean[1:], "l2", torch.ones(3))
    assert torch.equal(search.x, first)
    assert search.reach.tolist() == pytest.approx([0.2] * 4)
    search.keep(rows[2:3], search.clean[2:3], "l2", torch.zeros(1))
    assert search.distance[2] == 0
    assert torch.equal(search.distance[[0, 1, 3]], distance[[0, 1, 3]])


def test_many_images_are_asked_about_in_parts_and_charged_to_their_own(
    monkeypatch: pytest.MonkeyPatch,
):
    search, counted = begun(5)
    sizes = []

    def watch(_module: object, inputs: tuple[Tensor]) -> None:
        sizes.append(len(inputs[0]))

    counted.register_forward_pre_hook(watch)
    rows = torch.tensor([0, 0, 0, 2, 4, 4, 4, 4])
    other = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = search.query(other, rows)
    monkeypatch.setattr("scotoma.attacks.core.search.batch_size", lambda _device, _pixels: 3)
    assert torch.equal(search.query(other, rows), whole)
    assert sizes == [8, 3, 3, 2]
    assert search.queries.tolist() == counted.forwards.tolist() == [7, 1, 3, 1, 9]


def test_repeated_images_have_the_random_numbers_of_each_time():
    search, _ = begun(4)
    n = len(search)
    times = [search.random.fork(number) for number in (3, 5)]
    repeated = search.repeated([3, 5])
    like = torch.empty(2 * n, 2, 3)
    expected = torch.cat([random.uniform(like[:n]) for random in times])
    assert torch.equal(repeated.random.uniform(like), expected)
    keep = torch.tensor([1, 2, n, n + 3])
    numbers = torch.cat([random.uniform(like[:n]) for random in times])
    assert torch.equal(repeated.random.select(keep).uniform(like[:4]), numbers[keep])
    last = torch.tensor([n + 1])
    assert torch.equal(
        repeated.random.select(last).fork(7).uniform(like[:1]),
        times[1].fork(7).uniform(like[:n])[1:2],
    )
    assert torch.equal(repeated.clean, search.clean.repeat(2, 1, 1, 1))
    assert repeated.rows.tolist() == [*range(n), *range(n)]
    assert repeated.distance.isinf().all()


def test_bisection_ends_at_the_boundary():
    search, _ = begun(6)
    ends = 1 - search.clean
    rows = search.query(ends).nonzero().squeeze(1)
    assert len(rows) > 2

    def place(images: Tensor, ends: Tensor, reach: Tensor) -> Tensor:
        return images + (ends - images) * reach[:, None, None, None]

    x, reach = search.bisect(rows, ends[rows], place, ends[rows], torch.ones(len(rows)), 12)
    assert search.query(x, rows).all()
    assert torch.allclose(x, place(search.clean[rows], ends[rows], reach))
    below = place(search.clean[rows], ends[rows], reach - 2**-12)
    assert not search.query(below, rows).any()


def test_begins_with_the_images_that_are_right():
    model, images, labels = problem(6)
    labels = labels.clone()
    labels[2] = (labels[2] + 1) % 5
    search = Search.begin(model, images, labels, Randomness(1, torch.arange(6)))
    assert search.rows.tolist() == [0, 1, 3, 4, 5]
    assert torch.equal(search.x, images[search.rows])
