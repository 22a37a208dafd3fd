"""The handwritten digits inside scikit-learn: 1,797 images of 8x8, no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scotoma.data.dataset import ArraySplit, Dataset, from_splits

SPLIT_SEED = 0
TEST_SIZE = 500


def digits(root: Path | None = None) -> Dataset:
    """scikit-learn's 8x8 handwritten digits: 1,297 for training, 500 for testing.

    The 17 grey levels 0..16 are divided by 16. The split is `numpy.random.default_rng(0).permutation(1797)`: its first 500
    are the test set. `root` is not used: the images are embedded in scikit-learn.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(images))
    test, train = order[:TEST_SIZE], order[TEST_SIZE:]
    return from_splits(
        "digits",
        ArraySplit(images[train], labels[train], "digits"),
        ArraySplit(images[test], labels[test], "digits"),
    )
