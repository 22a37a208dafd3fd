"""Augmentations change images as they say, by their generator alone."""

from __future__ import annotations

import pytest
import torch

from scotoma.training.augment import CropFlip, Cutout, Invert, RandomScaleShift
from scotoma.utils.errors import InputError


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_crop_flip_gives_every_shift_and_mirror_image():
    image = torch.rand(1, 3, 5, 6, generator=generator())
    wide = torch.zeros(3, 9, 10)
    wide[:, 2:7, 2:8] = image[0]
    shifts = {(i, j, m) for i in range(5) for j in range(5) for m in range(2)}
    seen = set()
    for moved in CropFlip(padding=2)(image.expand(600, -1, -1, -1), generator()):
        for i, j, m in shifts:
            crop = wide[:, i : i + 5, j : j + 6]
            if torch.equal(moved, crop.flip(2) if m else crop):
                seen.add((i, j, m))
                break
        else:
            raise AssertionError("an image that is no crop")
    assert seen == shifts


def test_scale_shift_is_affine_stays_in_range_and_leaves_some_images():
    images = torch.rand(400, 1, 4, 4, generator=generator())
    images[:, 0, 0, :2] = torch.tensor([0.0, 1.0])
    moved = RandomScaleShift(alpha=0.6, share=0.5)(images, generator())
    low, high = moved[:, 0, 0, 0], moved[:, 0, 0, 1]
    alpha = high - low
    assert alpha.min() >= 0.6 - 1e-6
    assert alpha[alpha < 1 - 1e-6].max() > 0.95
    assert low.min() >= 0
    assert high.max() <= 1
    assert torch.allclose(
        moved, images * alpha.view(-1, 1, 1, 1) + low.view(-1, 1, 1, 1), atol=1e-6
    )
    stayed = (moved == images).flatten(1).all(1).float().mean().item()
    assert 0.4 < stayed < 0.6
    assert (low[alpha < 0.8] > 0.15).any()
    assert (low[alpha < 0.8] < 0.05).any()


def test_the_same_generator_gives_the_same_images():
    images = torch.rand(8, 3, 8, 8)
    for augmentation in (CropFlip(), RandomScaleShift(), Invert()):
        assert torch.equal(augmentation(images, generator()), augmentation(images, generator()))


def test_about_half_of_the_images_become_negatives():
    images = torch.rand(400, 1, 3, 3)
    after = Invert()(images, generator())
    same = (after == images).flatten(1).all(1)
    assert 150 < same.sum() < 250
    assert torch.equal(after[~same], 1 - images[~same])


@pytest.mark.parametrize(
    ("side", "shape"),
    [(4, (3, 7, 9)), (3, (1, 6, 5)), (1, (1, 3, 3)), (9, (1, 4, 4)), (None, (2, 8, 8))],
)
def test_every_centre_is_drawn_and_its_square_alone_is_black(side, shape):
    _, height, width = shape
    images = torch.full((40 * height * width, *shape), 0.5)
    made = Cutout(side)(images, generator())
    length = side or 4
    centres = {}
    for row in range(height):
        for column in range(width):
            wanted = torch.full(shape, 0.5)
            top, left = row - length // 2, column - length // 2
            wanted[:, max(top, 0) : top + length, max(left, 0) : left + length] = 0
            centres[row, column] = wanted
    each = {wanted.numpy().tobytes() for wanted in centres.values()}
    assert {image.contiguous().numpy().tobytes() for image in made} == each
    assert bool((images == 0.5).all()), "the images given stay as they are"


def test_centres_are_uniform_and_squares_at_the_border_smaller():
    made = Cutout(2)(torch.ones(9000, 1, 3, 3), generator())
    sizes = (made == 0).flatten(1).sum(1).bincount(minlength=5) / len(made)
    # a side of 2 about 3 centres covers 1, 2 and 2 of 3 rows
    assert torch.allclose(sizes, torch.tensor([0, 1 / 9, 4 / 9, 0, 4 / 9]), atol=0.02)


def test_half_the_shorter_side_is_the_default():
    made = Cutout()(torch.ones(500, 1, 32, 48), generator())
    assert (made == 0).flatten(1).sum(1).max() == 16 * 16
    assert torch.equal(Cutout()(torch.ones(5, 3, 1, 1), generator()), torch.zeros(5, 3, 1, 1))


def test_colours():
    images = torch.rand(30, 3, 6, 6, generator=generator()) * 0.5
    black, grey, mean = (Cutout(3, colour)(images, generator()) for colour in (0.0, 0.75, None))
    square = black == 0
    assert torch.equal(square[:, :1].expand_as(square), square), "all channels together"
    assert torch.equal(grey, images.masked_fill(square, 0.75))
    average = images.mean((0, 2, 3), keepdim=True).expand_as(images)
    assert torch.equal(mean, torch.where(square, average, images))


def test_any_layout_and_no_dependence_on_what_the_images_show():
    images = torch.rand(12, 3, 8, 8, generator=generator())
    wanted = Cutout()(images, generator())
    assert torch.equal(
        Cutout()(images.contiguous(memory_format=torch.channels_last), generator()), wanted
    )
    assert torch.equal(Cutout()(images.flip(3).flip(3), generator()), wanted)
    one = Cutout()(images[:1], generator())
    assert one.shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("values", "says"), [({"side": 0}, "1 pixel or more"), ({"colour": 1.5}, "in \\[0, 1\\]")]
)
def test_what_cannot_be(values, says):
    with pytest.raises(InputError, match=says):
        Cutout(**values)
    with pytest.raises(InputError, match="colour nan"):
        Cutout(colour=float("nan"))
