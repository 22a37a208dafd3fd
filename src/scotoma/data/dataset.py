"""What every source yields: a test split, mostly a training split, and a hash of what was read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from scotoma.utils.errors import InputError

MOST_CLASSES = 100_000
"""A label beyond this is a mistake (a mask of -1 read as unsigned, an index, a file size), not a class."""


class Split(Protocol):
    """Images with labels, read a batch at a time."""

    labels: Tensor
    """int64 (n,)"""
    shape: tuple[int, int, int]
    """channels, height, width"""

    def __len__(self) -> int: ...

    def images(self, indices: Tensor) -> Tensor:
        """float32 (k, c, h, w) in [0, 1] for int64 indices (k,)."""
        ...


class ArraySplit:
    """A split held in memory, as bytes where it came as bytes.

    Args:
        images: (n, c, h, w), uint8 in 0..255 or float32 in [0, 1].
        labels: integers (n,).
        source: named in error messages.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, source: str):
        if images.ndim != 4:
            raise InputError(
                f"{source}: images have shape {images.shape}; want (n, channels, height, width)"
            )
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise InputError(
                f"{source}: labels are {labels.dtype} of shape {labels.shape}; want {len(images)} integers"
            )
        if images.size == 0:
            raise InputError(f"{source}: there are no images (shape {images.shape})")
        if images.dtype.kind not in "fiub":
            raise InputError(f"{source}: pixels are {images.dtype}; want floats in [0, 1] or uint8")
        if images.dtype != np.uint8:
            images = np.require(images, np.float32, ["C", "W"])
            low, high = float(images.min()), float(images.max())
            if not (low >= 0 and high <= 1):  # NaN fails this as well
                raise InputError(
                    f"{source}: pixels reach from {low:g} to {high:g}; want floats in [0, 1] or uint8 (normalise inside the model)"
                )
        if not 0 <= labels.min() <= labels.max() < MOST_CLASSES:
            raise InputError(
                f"{source}: labels reach from {labels.min()} to {labels.max()}; classes are numbered from 0"
            )
        self._images = torch.from_numpy(images)
        self.labels = torch.from_numpy(labels.astype(np.int64))
        self.shape: tuple[int, int, int] = images.shape[1:]

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, indices: Tensor) -> Tensor:
        batch = self._images[indices]
        return batch.float().div_(255) if batch.dtype == torch.uint8 else batch

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256(self._images.numpy().tobytes())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """Images of one kind and size, split for training and testing.

    `train` is None where the source has none: probes that measure distance to the training data then do not apply.
    """

    name: str
    test: Split
    train: Split | None
    classes: tuple[str, ...]
    sha256: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        return self.test.shape


def from_splits(
    name: str, train: ArraySplit | None, test: ArraySplit, classes: tuple[str, ...] | None = None
) -> Dataset:
    """A data set of two splits in memory, checked to fit each other."""
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
