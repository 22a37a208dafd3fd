"""Splits in memory."""

import numpy as np
import pytest
import torch

from scotoma.data.dataset import ArraySplit, Repeated, from_splits
from scotoma.utils.errors import InputError

IMAGES = np.zeros((2, 1, 3, 3), np.uint8)


def test_arrays_that_cannot_be_written_are_copied():
    images = np.zeros((2, 1, 3, 3), np.float32)
    images.flags.writeable = False
    assert len(ArraySplit(images, np.array([0, 1]), "here")) == 2  # torch would warn


def test_named_classes_must_cover_the_labels():
    split = ArraySplit(IMAGES, np.array([0, 2]), "here")
    assert from_splits("here", None, split).classes == ("0", "1", "2")
    with pytest.raises(InputError, match="label 2 lies outside the 2 classes"):
        from_splits("here", None, split, ("cat", "dog"))


def test_the_hash_tells_labels_and_splits_apart():
    a = ArraySplit(IMAGES, np.array([0, 1]), "here")
    b = ArraySplit(IMAGES, np.array([1, 0]), "here")
    hashes = [from_splits("here", *pair).sha256 for pair in ((None, a), (None, b), (a, b), (b, a))]
    assert len(set(hashes)) == 4
    assert from_splits("there", a, b).sha256 == hashes[2]


def test_few_images_return_until_an_epoch_is_as_long():
    pixels = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1)
    split = ArraySplit(pixels, np.arange(10), "here")
    few = Repeated(split, 3, seed=1)
    assert len(few) == len(few.labels) == 10
    assert sorted(few.labels.bincount()[few.labels.unique()].tolist()) == [3, 3, 4]
    every = torch.arange(10)
    assert torch.equal(few.images(every).flatten().mul(255).round().long(), few.labels)
    assert torch.equal(Repeated(split, 10).labels.sort().values, every)
