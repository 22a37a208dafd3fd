"""Images that occur several times, within the test images or in both splits, and missing labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from scotoma.data.dataset import ArraySplit, Dataset, Split
from scotoma.data.encoded import EncodedSplit
from scotoma.data.matching import Colour
from scotoma.utils.errors import InputError

MOST_FILES = 10_000
"""Most encoded images that are compared; more take too long to read."""
BATCH = 1000


def with_duplicates_noted(data: Dataset) -> Dataset:
    """Return the data with notes on equal images and on classes without training images.

    Images are equal if their pixels are; encoded ones if their files are, and these are compared up
    to `MOST_FILES`.

    Raises:
        InputError: every test image is a training image.

    >>> split = ArraySplit(np.zeros((3, 1, 4, 4), np.uint8), np.array([0, 1, 1]), "mine")
    >>> print(*with_duplicates_noted(Dataset("mine", split, None, ("0", "1"), "")).notes)
    2 of the 3 test images of mine repeat another one: ...
    """
    return replace(data, notes=(*data.notes, *_notes(data)))


def first_of_copies(images: Tensor) -> Tensor:
    """Return the number of the first of each group of equal images, ascending, int64 (k,).

    Args:
        images: (n, c, h, w).

    >>> first_of_copies(torch.tensor([0.1, 0.2, 0.1]).view(3, 1, 1, 1)).tolist()
    [0, 1]
    """
    hashes = np.array([hash(each.tobytes()) for each in images.numpy()])
    return torch.from_numpy(np.sort(np.unique(hashes, return_index=True)[1]))


def _notes(data: Dataset) -> Iterator[str]:
    """Yield what is wrong, the worst first."""
    splits = [data.test] if data.train is None else [data.test, data.train]
    hashes, n, name = _hashes(splits), len(data.test), data.name
    if hashes is not None and data.train is not None:
        shared = int(np.isin(hashes[0], hashes[1]).sum())
        if shared == n:
            raise InputError(
                f"train: every test image of {name} is a training image, so nothing about new "
                "images or the distance from the training images can be measured; give other test "
                "or training images, or omit train=DATA"
            )
        if shared:
            verb = "occurs" if shared == 1 else "occur"
            yield (
                f"{shared:,} of the {n:,} test images of {name} {verb} among the training images: "
                "results on them say little about new images."
            )
    if hashes is not None and (copies := n - len(np.unique(hashes[0]))):
        verb = "repeats" if copies == 1 else "repeat"
        yield (
            f"{copies:,} of the {n:,} test images of {name} {verb} another one: intervals count "
            "each as an image of its own, so they are narrower than they should be."
        )
    if data.train is not None:
        tested, trained = (split.labels.unique() for split in (data.test, data.train))
        missing = tested[~torch.isin(tested, trained)]
        if len(missing):
            yield (
                f"{len(missing)} of the {len(tested)} classes of the test images of {name} have no "
                f"training images (such as class {data.classes[int(missing[0])]}): check that "
                "training labels number the same classes."
            )


def _hashes(splits: Sequence[Split]) -> list[np.ndarray] | None:
    """Return a hash of each image of each split, (n,); None if that takes too long."""
    if all(isinstance(split, Colour) for split in splits):
        return _hashes([split.split for split in splits if isinstance(split, Colour)])
    inner = [split.split if isinstance(split, Colour) else split for split in splits]
    encoded = [isinstance(split, EncodedSplit) for split in inner]
    if any(encoded) and sum(map(len, splits)) > MOST_FILES:
        return None
    if all(encoded) and inner == splits:
        return [_of_files(split) for split in splits]
    raw = all(isinstance(split, ArraySplit) and split.as_bytes for split in splits)
    return [_of_pixels(split, raw) for split in splits]


def _of_files(split) -> np.ndarray:
    return np.array([hash(split.files.read(row)) for row in split.rows.tolist()])


def _of_pixels(split, raw: bool) -> np.ndarray:
    hashes = []
    for rows in torch.arange(len(split)).split(BATCH):
        images = split.stored(rows) if raw else split.images(rows)
        hashes += [hash(each.tobytes()) for each in images.numpy()]
    return np.array(hashes)
