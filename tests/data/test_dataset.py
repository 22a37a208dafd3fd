"""Splits in memory."""

import numpy as np
import pytest

from scotoma.data.dataset import ArraySplit, from_splits
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
