"""Inductive occlusion: its search finds exactly what trying every cover in turn finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from deciders import OnePixel, Total, linear_problem, random_map
from torch import Tensor, nn

from scotoma.attacks.core.losses import fooled, margin
from scotoma.attacks.core.oracle import Counted
from scotoma.attribution.colour import COLOURS, Colour, fill
from scotoma.attribution.occlusion import CENTRES, InductiveOcclusion, Occluded, with_controls
from scotoma.attribution.ranking import ORDERS
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

SHAPE = (3, 7, 6)


def streams(n: int, seed: int = 3) -> Randomness:
    return Randomness(seed, torch.arange(n))


def same(a: Occluded, b: Occluded) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def centres_by_hand(attack: InductiveOcclusion, attribution: np.ndarray) -> list[tuple[int, int]]:
    """The centres for one image (c, h, w): blocks of largest sum, or pixels of largest mean."""
    height, width = attribution.shape[1:]
    if attack.centres == "pixel":
        mean = attribution.mean(0)
        scored = [(mean[i, j], (i, j)) for i in range(height) for j in range(width)]
    else:
        b, scored = attack.block or 0, []
        for i in range(0, height, b):
            for j in range(0, width, b):
                part = attribution[:, i : i + b, j : j + b]
                scored.append((part.sum(), (i + part.shape[1] // 2, j + part.shape[2] // 2)))
    scored.sort(key=lambda pair: pair[0], reverse=attack.order == "importance")
    return [centre for _, centre in scored[: attack.regions]]


def search_by_hand(
    attack: InductiveOcclusion,
    model: nn.Module,
    image: Tensor,
    label: Tensor,
    centres: list[tuple[int, int]],
    colour: Tensor,
) -> tuple[bool, int, int, float]:
    """Try every cover in turn, as the text and the authors' code do."""
    if fooled(model(image[None]), label[None])[0]:
        return True, 0, 0, 0.0
    tries = [(n, r) for n in range(1, attack.regions + 1) for r in range(1, attack.radius + 1)]
    if attack.centres == "pixel":
        tries.sort(key=lambda step: (step[1], step[0]))
    for n, r in tries:
        mask = torch.zeros(image.shape[1:], dtype=torch.bool)
        for i, j in centres[:n]:
            mask[max(0, i - r) : i + r, max(0, j - r) : j + r] = True
        x = torch.where(mask, colour, image)
        if fooled(model(x[None]), label[None])[0]:
            return True, n, r, float(mask.sum())
    return False, 0, 0, float("inf")


@pytest.mark.parametrize("shape", [(1, 6, 6), SHAPE, (3, 8, 8)])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("centres", CENTRES)
def test_finds_what_trying_every_cover_in_turn_finds(
    centres: str, order: str, shape: tuple[int, int, int]
):
    model, images, labels, attribution = linear_problem(600, shape)
    ranked = margin(model(images), labels).argsort()
    chosen = torch.cat(
        [ranked[:30], ranked[-30:]]
    )  # the surest, of which some stand, and the least sure
    images, labels, attribution = images[chosen], labels[chosen], attribution[chosen]
    labels[-4:] = (labels[-4:] + 1) % 4  # wrong before anything is covered
    attack = InductiveOcclusion(3, 2, centres=centres, block=3, order=order)
    found = attack(model, images, labels, attribution, streams(60))
    colour = fill(images, "black")
    rows, columns = attack.places(attribution, streams(60))
    kinds = set()
    for i in range(len(images)):
        where = list(zip(rows[i].tolist(), columns[i].tolist(), strict=True))
        if order != "random":
            assert where == centres_by_hand(attack, attribution[i].numpy())
        fell, n, r, covered = search_by_hand(attack, model, images[i], labels[i], where, colour[i])
        assert (found.fooled[i], found.regions[i], found.radius[i], found.covered[i]) == (
            fell,
            n,
            r,
            covered,
        )
        kinds.add((fell, n))
    assert len(kinds) >= 4  # wrong, stands, falls to one square, falls to more
    assert found.fooled[-4:].all()
    assert (found.covered[-4:] == 0).all()


@pytest.mark.parametrize("centres", CENTRES)
def test_returned_images_are_what_it_says_of_them(centres: str):
    model, images, labels, attribution = linear_problem(50, SHAPE)
    labels[:4] = (labels[:4] + 1) % 4
    before = images.clone()
    found = InductiveOcclusion(4, 3, centres=centres, block=3, colour=0.25)(
        model, images, labels, attribution
    )
    assert torch.equal(images, before)
    assert torch.equal(fooled(model(found.images), labels), found.fooled)
    changed = (found.images != images).any(1)
    tried = found.fooled & (found.regions > 0)
    assert torch.equal(changed.sum((1, 2))[tried].float(), found.covered[tried])
    assert not changed[~tried].any()
    assert (found.images.permute(0, 2, 3, 1)[changed] == 0.25).all()
    assert found.covered[~found.fooled].isinf().all()
    assert (found.regions[~found.fooled] == 0).all()


@pytest.mark.parametrize("centres", CENTRES)
def test_the_order_of_the_search(centres: str):
    attack = InductiveOcclusion(2, 3, centres=centres)
    regional = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    pixel = [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3), (2, 3)]
    assert attack.steps == (regional if centres == "regional" else pixel)


@pytest.mark.parametrize(
    ("at", "pixels"),
    [
        ((4, 4), (4, 16, 36)),
        ((0, 0), (1, 4, 9)),
        ((7, 7), (4, 9, 16)),
        ((3, 7), (4, 12, 24)),
        ((3, 0), (2, 8, 18)),
    ],
)
def test_squares_are_as_in_the_authors_code_and_cut_at_the_border(
    at: tuple[int, int], pixels: tuple[int, int, int]
):
    """Rows i - r to i + r - 1 of 8: all 2r about 4, the first r about 0, r + 1 about 7."""
    attribution = torch.zeros(1, 1, 8, 8)
    attribution[0, 0, *at] = 1
    images, labels = torch.ones(1, 1, 8, 8), torch.tensor([0])
    attack = InductiveOcclusion(1, 3, 0.0, "pixel")
    for radius, covered in enumerate(pixels, 1):
        model = Total(
            torch.ones(1, 8, 8), 64 - covered + 0.5
        )  # falls when so many pixels are black
        found = attack(model, images, labels, attribution)
        assert (found.regions.item(), found.radius.item(), found.covered.item()) == (
            1,
            radius,
            covered,
        )
    model = Total(torch.ones(1, 8, 8), 64 - pixels[-1] - 0.5)
    assert not attack(model, images, labels, attribution).fooled


def test_squares_about_blocks_cover_them_exactly():
    attribution = torch.zeros(1, 3, 8, 8)
    attribution[0, :, 4:, :4] = 1
    images, labels = torch.ones(1, 3, 8, 8), torch.tensor([0])
    found = InductiveOcclusion(1, 2, 0.0, block=4)(
        Total(torch.ones(3, 8, 8), 3 * 48 + 0.5), images, labels, attribution
    )
    assert (found.images == 0).all(1)[0, 4:, :4].all()
    assert found.covered.item() == 16


def test_overlapping_squares_count_once():
    attribution = torch.zeros(1, 1, 8, 8)
    attribution[0, 0, 4, 4], attribution[0, 0, 4, 5] = 2, 1
    model = Total(torch.ones(1, 8, 8), 64 - 6 + 0.5)
    found = InductiveOcclusion(2, 1, 0.0, "pixel")(
        model, torch.ones(1, 1, 8, 8), torch.tensor([0]), attribution
    )
    assert (found.regions.item(), found.covered.item()) == (2, 6)


def test_where_one_pixel_decides_importance_breaks_at_once_and_reverse_only_when_it_must():
    images, labels = torch.full((6, 1, 6, 6), 0.5), torch.zeros(6, dtype=torch.int64)
    attribution = random_map(6, (1, 6, 6)).clamp(-1, 1)
    attribution[:, 0, 2, 3] = 2
    model = OnePixel(2, 3, 0.5)
    found = with_controls(
        InductiveOcclusion(36, 1, "white", "pixel"), model, images, labels, attribution, streams(6)
    )
    assert not any(
        found[order][0].fooled.any() for order in ORDERS
    )  # the image's own white is the gray it is
    attack = InductiveOcclusion(36, 1, 1.0, "pixel")
    found = with_controls(attack, model, images, labels, attribution, streams(6), draws=3)
    assert [len(found[order]) for order in ORDERS] == [1, 3, 1]
    assert (found["importance"][0].regions == 1).all()
    assert (found["importance"][0].covered == 4).all()
    chance = torch.stack([result.regions for result in found["random"]])
    assert (found["reverse"][0].regions > 1).all()
    assert chance.float().mean() > 2
    assert (chance != chance[0]).any()
    assert all(bool(result.fooled.all()) for results in found.values() for result in results)


def test_important_places_fall_first():
    model, images, labels, attribution = linear_problem(200, (3, 8, 8))
    found = with_controls(InductiveOcclusion(3, 1, block=2), model, images, labels, attribution)
    first, chance, last = (found[order][0].fooled.float().mean() for order in ORDERS)
    assert first > chance + 0.1 > last + 0.2


@pytest.mark.parametrize("centres", CENTRES)
@pytest.mark.parametrize("order", ORDERS)
def test_no_split_changes_an_answer_and_no_batch_is_too_large(centres: str, order: str):
    model, images, labels, attribution = linear_problem(23, SHAPE)
    attack = InductiveOcclusion(3, 3, centres=centres, block=2, order=order)
    whole = attack(model, images, labels, attribution, streams(23))
    for batch in (1, 4, 9, 100):
        model.most = 0
        assert same(
            replace(attack, batch=batch)(model, images, labels, attribution, streams(23)), whole
        )
        assert model.most <= batch
    rows = torch.tensor([20, 3, 8])
    part = attack(model, images[rows], labels[rows], attribution[rows], Randomness(3, rows))
    assert same(part, Occluded(*(field[rows] for field in whole)))


def test_images_leave_when_they_fall():
    model, images, labels, attribution = linear_problem(40, SHAPE)
    labels[:5] = (labels[:5] + 1) % 4
    attack = InductiveOcclusion(3, 3, block=2)
    counted = Counted(model, 40, images.device)
    found = replace(attack, batch=1)(
        counted, images, labels, attribution
    )  # alone in its batch: no try is in vain
    tries = torch.where(found.fooled, (found.regions - 1) * 3 + found.radius, 9)
    assert torch.equal(
        counted.forwards,
        torch.where(found.regions + found.radius > 0, 1 + tries, torch.where(found.fooled, 1, 10)),
    )
    counted = Counted(model, 40, images.device)
    replace(attack, batch=40)(counted, images, labels, attribution)
    assert (counted.forwards[:5] == 1).all()
    assert (counted.forwards <= 10).all()
    assert counted.forwards.sum() < 10 * 40


def test_a_map_of_zeros_is_as_good_as_chance():
    model, images, labels, _ = linear_problem(30, SHAPE)
    found = with_controls(
        InductiveOcclusion(4, 2, block=2),
        model,
        images,
        labels,
        torch.zeros_like(images),
        streams(30),
    )
    attack = InductiveOcclusion(4, 2, block=2, order="random")
    assert same(found["importance"][0], found["random"][0])
    assert same(
        found["random"][0],
        attack(model, images, labels, torch.zeros_like(images), streams(30).fork(0)),
    )


@pytest.mark.parametrize("name", [*COLOURS, 0.3, (0.1, 0.2, 0.3)])
def test_colours(name: Colour):
    images = 0.1 + 0.8 * torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    flat = images.flatten(1)
    expected = {"black": flat.amin(1), "white": flat.amax(1), "gray": torch.full((4,), 0.5)}.get(
        str(name)
    )
    colour = fill(images, name)
    assert colour.shape == (4, 3, 1, 1)
    if expected is not None:
        assert torch.equal(colour, expected.view(4, 1, 1, 1).expand(4, 3, 1, 1))
    else:
        assert torch.equal(colour, torch.tensor(name).view(-1, 1, 1).expand(4, 3, 1, 1))


def test_inputs_may_lie_in_memory_in_any_way():
    model, images, labels, attribution = linear_problem(9, SHAPE)
    attack = InductiveOcclusion(3, 2, block=2)
    plain = attack(model, images, labels, attribution)
    last = [part.to(memory_format=torch.channels_last) for part in (images, attribution)]
    assert same(attack(model, last[0], labels, last[1]), plain)
    assert attack(model, images[:0], labels[:0], attribution[:0]).images.shape == (0, *SHAPE)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"regions": 0}, "regions"),
        ({"radius": 0}, "radius"),
        ({"block": 0}, "block"),
        ({"batch": 0}, "batch"),
        ({"centres": "region"}, "regional"),
        ({"order": "reversed"}, "reverse"),
        ({"colour": "grey"}, "gray"),
        ({"colour": 127.0}, "divide by 255"),
        ({"colour": (0.1, 0.2)}, "channels"),
        ({"regions": 5, "block": 4}, "4 blocks of 4x4"),
        ({"regions": 13}, "12 blocks of 2x2"),
        ({"regions": 43, "centres": "pixel"}, "42 pixels"),
    ],
)
def test_bad_options(options: dict, word: str):
    model, images, labels, attribution = linear_problem(2, SHAPE)
    with pytest.raises(InputError, match=word):
        InductiveOcclusion(**{"regions": 2, "radius": 2, **options})(
            model, images, labels, attribution
        )


def test_bad_maps():
    model, images, labels, attribution = linear_problem(2, SHAPE)
    with pytest.raises(InputError, match="shape"):
        InductiveOcclusion(1, 1)(model, images, labels, attribution.sum(1))
    attribution[0, 0, 0, 0] = torch.inf
    with pytest.raises(InputError, match="infinite"):
        InductiveOcclusion(1, 1)(model, images, labels, attribution)
