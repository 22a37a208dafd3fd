"""Augmentations move images as they say and stay in range."""

from __future__ import annotations

import torch

from scotoma.training.augment import CropFlip, Invert, RandomScaleShift


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
