"""The handwritten digits inside scikit-learn: 1,797 images of 8x8, no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scotoma.data.dataset import ArraySplit, Dataset, from_splits

SPLIT_SEED = 0
TEST_SIZE = 500


def digits(root: Path | None = None) -> Dataset:
    """scikit-learn's 8x8 handwritten digits: 1,297 for training, 500 for testing.

    Grey levels 0 to 16 are divided by 16. The test set is the first 500 images of
    `numpy.random.default_rng(0).permutation(1797)`. `root` is ignored: scikit-learn has the images.
    """
    from sklearn.datasets import load_digits

    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    images = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    test, train = order[:TEST_SIZE], order[TEST_SIZE:]
    return from_splits(
        "digits",
        ArraySplit(images[train], labels[train], "digits"),
        ArraySplit(images[test], labels[test], "digits"),
    )
