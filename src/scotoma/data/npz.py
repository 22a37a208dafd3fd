"""A user's own arrays in one NumPy archive."""

from __future__ import annotations

import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from scotoma.data.dataset import ArraySplit, Dataset, channels_first, from_splits
from scotoma.utils.errors import InputError

DAMAGED = (OSError, ValueError, EOFError, BadZipFile, zlib.error, AttributeError, TypeError)
"""Errors of NumPy for files that are damaged or something else."""


def npz(path: Path) -> Dataset:
    """A NumPy archive: x_test, y_test and, for probes that need them, x_train, y_train.

    Images are (n, h, w), (n, h, w, c) with 1 or 3 channels, or (n, c, h, w), as uint8 or as floats
    in [0, 1].
    """
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise InputError(f"{path}: holds one array; want an .npz with x_test and y_test")
        with archive:
            arrays = {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except DAMAGED as error:
        # NumPy takes a file that is no archive for a pickle, and advises to open it unsafely
        detail = "" if "unsafely" in str(error) else f" ({str(error).partition(chr(10))[0]})"
        raise InputError(f"{path}: not a whole NumPy archive of plain arrays{detail}") from None
    missing = [key for key in ("x_test", "y_test") if key not in arrays]
    if missing or ("x_train" in arrays) != ("y_train" in arrays):
        raise InputError(
            f"{path}: contains {sorted(arrays)}; want x_test and y_test, "
            "and x_train with y_train or neither"
        )
    train = _split(arrays, "train", path) if "x_train" in arrays else None
    return from_splits(f"npz:{path.name}", train, _split(arrays, "test", path))


def _split(arrays: dict[str, np.ndarray], part: str, path: Path) -> ArraySplit:
    labels, source = arrays[f"y_{part}"], f"{path} (x_{part}, y_{part})"
    images = channels_first(arrays[f"x_{part}"])
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(
            f"{source}: shape {images.shape}; want (n, h, w), (n, h, w, c) or (n, c, h, w) "
            "with 1 or 3 channels"
        )
    return ArraySplit(images, labels, source)
