"""Data sets: a test split, mostly a training split, and a hash of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from scotoma.utils.errors import InputError

MOST_CLASSES = 100_000
"""Labels beyond this are mistakes, not classes: a mask of -1 read as unsigned, an index, a size."""


class Split(Protocol):
    """Images with labels, read one batch at a time."""

    labels: Tensor
    """int64 (n,)."""
    shape: tuple[int, int, int]
    """Channels, height and width."""

    def __len__(self) -> int: ...

    def images(self, indices: Tensor) -> Tensor:
        """Return float32 images (k, c, h, w) in [0, 1] for int64 indices (k,)."""
        ...


def channels_first(images: np.ndarray) -> np.ndarray:
    """Return images (n, h, w), or (n, h, w, c) with 1 or 3 channels, as (n, c, h, w).

    Others are returned as they are.

    >>> channels_first(np.zeros((2, 8, 8))).shape, channels_first(np.zeros((2, 8, 8, 3))).shape
    ((2, 1, 8, 8), (2, 3, 8, 8))
    """
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return images


class ArraySplit:
    """A split in memory, stored as bytes if it came as bytes.

    Args:
        images: (n, c, h, w), uint8 in 0..255 or floats in [0, 1].
        labels: integers (n,), numbered from 0.
        source: name for error messages.

    Raises:
        InputError: shapes, types, pixels or labels are wrong.

    >>> split = ArraySplit(np.full((2, 1, 4, 4), 255, np.uint8), np.array([0, 1]), "mine")
    >>> len(split), split.images(torch.tensor([1])).mean().item()
    (2, 1.0)
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, source: str):
        if images.ndim != 4:
            raise InputError(
                f"{source}: images have shape {images.shape}; want (n, channels, height, width)"
            )
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim == 2 and len(labels) == len(images):
            raise InputError(
                f"{source}: labels are one-hot, of shape {labels.shape}; give their class numbers "
                "(labels.argmax(1))"
            )
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise InputError(
                f"{source}: labels are {labels.dtype} of shape {labels.shape}; "
                f"want {len(images)} integers"
            )
        if images.size == 0:
            raise InputError(f"{source}: there are no images (shape {images.shape})")
        if images.dtype.kind not in "fiub":
            raise InputError(f"{source}: pixels are {images.dtype}; want floats in [0, 1] or uint8")
        if images.dtype != np.uint8:
            images = np.require(images, np.float32, ["C", "W"])
            low, high = float(images.min()), float(images.max())
            if np.isnan(images).any():
                raise InputError(f"{source}: some pixels are NaN; want floats in [0, 1] or uint8")
            if not (low >= 0 and high <= 1):
                raise InputError(
                    f"{source}: pixels reach from {low:g} to {high:g}; want floats in [0, 1] or "
                    "uint8 (normalise inside the model)"
                )
        if not 0 <= labels.min() <= labels.max() < MOST_CLASSES:
            raise InputError(
                f"{source}: labels reach from {labels.min()} to {labels.max()}; "
                "classes are numbered from 0"
            )
        self._images = torch.from_numpy(images)
        self.labels = torch.from_numpy(labels.astype(np.int64))
        self.shape: tuple[int, int, int] = images.shape[1:]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def as_bytes(self) -> bool:
        """Whether images are stored as uint8."""
        return self._images.dtype == torch.uint8

    def stored(self, indices: Tensor) -> Tensor:
        """Return images as they are stored: uint8, or float32 in [0, 1]."""
        return self._images[indices]

    def images(self, indices: Tensor) -> Tensor:
        batch = self._images[indices]
        return batch.float().div_(255) if batch.dtype == torch.uint8 else batch

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256(self._images.numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()


class Sample:
    """Images of a split drawn at random, read when they are needed.

    Args:
        split: the images.
        images: how many; all where there are fewer.
        seed: seed of the draw.

    >>> split = ArraySplit(np.zeros((5, 1, 4, 4), np.uint8), np.arange(5), "mine")
    >>> len(Sample(split, 2)), Sample(split, 9).labels.tolist()
    (2, [0, 1, 2, 3, 4])
    """

    def __init__(self, split: Split, images: int, seed: int = 0):
        self.split, self.shape = split, split.shape
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
        self.chosen = order[:images].sort().values
        self.labels = split.labels[self.chosen]

    def __len__(self) -> int:
        return len(self.chosen)

    def images(self, indices: Tensor) -> Tensor:
        return self.split.images(self.chosen[indices])

    def read(self) -> tuple[Tensor, Tensor]:
        """Return all its images and labels."""
        return self.images(torch.arange(len(self))), self.labels


class Repeated(Sample):
    """Images of a split drawn at random, each repeated until there are as many as in the split.

    An epoch over few images then has as many steps as one over all.

    Args:
        split, seed: as in `Sample`.
        images: how many different ones.

    >>> split = ArraySplit(np.zeros((5, 1, 4, 4), np.uint8), np.arange(5), "mine")
    >>> few = Repeated(split, 2)
    >>> len(few), len(few.labels.unique())
    (5, 2)
    """

    def __init__(self, split: Split, images: int, seed: int = 0):
        super().__init__(split, images, seed)
        times = -(-len(split) // len(self.chosen))
        self.chosen = self.chosen.repeat(times)[: len(split)]
        self.labels = split.labels[self.chosen]


@dataclass(frozen=True)
class Dataset:
    """Images of one size, split for training and testing.

    Args:
        name: name for reports.
        test: images to audit.
        train: None where the source has none; probes that need training data then do not apply.
        classes: names of the classes, by label.
        sha256: hash of the content.
        notes: sentences for the report on how the images were read.
        files_sha256: hash of the files, if they were resized or renumbered after that.

    >>> split = ArraySplit(np.zeros((2, 1, 4, 4), np.uint8), np.array([0, 1]), "mine")
    >>> Dataset("mine", split, None, ("cat", "dog"), split.sha256).shape
    (1, 4, 4)
    """

    name: str
    test: Split
    train: Split | None
    classes: tuple[str, ...]
    sha256: str
    notes: tuple[str, ...] = ()
    files_sha256: str | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        return self.test.shape

    @property
    def counted(self) -> str:
        """Number of classes for a sentence; where labels are missing, the largest one.

        Without names a gap in the labels does not tell how many classes there are.
        """
        splits = [self.test] if self.train is None else [self.test, self.train]
        occur = len(torch.cat([split.labels for split in splits]).unique())
        if occur == len(self.classes) or not all(name.isdecimal() for name in self.classes):
            return f"{len(self.classes)} class{'es' * (len(self.classes) > 1)}"
        return f"labels up to {len(self.classes) - 1}"


def class_name(classes: Sequence[str], label: int) -> str:
    """Return a class as captions show it: its number, and its name if it has one.

    A model can have more outputs than the data has classes.

    >>> class_name(["cat", "dog"], 1), class_name(["0", "1"], 1), class_name(["cat", "dog"], 7)
    ('1 (dog)', '1', '7')
    """
    name = classes[label] if label < len(classes) else str(label)
    return f"{label}" if name == str(label) else f"{label} ({name})"


def from_splits(
    name: str, train: ArraySplit | None, test: ArraySplit, classes: tuple[str, ...] | None = None
) -> Dataset:
    """Make a data set of two splits in memory and check that they fit each other.

    Args:
        name: name for reports and errors.
        train, test: the splits; `train` may be None.
        classes: names of the classes; None means their numbers.

    Raises:
        InputError: sizes of images differ, or a label has no name.

    >>> split = ArraySplit(np.zeros((2, 1, 4, 4), np.uint8), np.array([0, 1]), "mine")
    >>> from_splits("mine", None, split).classes
    ('0', '1')
    """
    splits = [test] if train is None else [train, test]
    if len({split.shape for split in splits}) > 1:
        raise InputError(
            f"{name}: training images are {splits[0].shape}, test images {splits[1].shape}"
        )
    count = 1 + max(int(split.labels.max()) for split in splits)
    names = classes or tuple(str(label) for label in range(count))
    if count > len(names):
        raise InputError(f"{name}: label {count - 1} lies outside the {len(names)} classes")
    digest = hashlib.sha256("".join(split.sha256 for split in splits).encode())
    return Dataset(name, test, train, names, digest.hexdigest())
