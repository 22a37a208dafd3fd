"""Encoded images that are decoded when they are needed, by several threads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from scotoma.data.dataset import Dataset
from scotoma.data.decoding import decode
from scotoma.data.input import ImageOptions, InputSpec
from scotoma.data.scan import THREADS, Files, Scan, pool, refuse_several, scan
from scotoma.utils.errors import InputError

AHEAD = 1
"""Batches that are decoded before they are needed."""
NAMED = 5
"""Most files that cannot be read that a note names."""


@dataclass(eq=False)
class EncodedSplit:
    """Images that are decoded when needed: only their names and labels are in memory.

    Args:
        files: encoded images.
        rows: which of them, int64 (n,).
        labels: class of each, int64 (n,).
        shape: channels, height and width; grey files get three channels if others are in colour.
        recipe: how an image is resized and cropped; None leaves it as it is.
    """

    files: Files
    rows: Tensor
    labels: Tensor
    shape: tuple[int, int, int]
    recipe: InputSpec | None = None
    _coming: list[tuple[Tensor, np.ndarray, list[Future]]] = field(default_factory=list, init=False)

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, indices: Tensor) -> Tensor:
        """Return float32 images (k, c, h, w) in [0, 1] for int64 indices (k,)."""
        begun = [each for each in self._coming if torch.equal(each[0], indices)]
        self._coming = [each for each in self._coming if not torch.equal(each[0], indices)]
        _, batch, work = begun[0] if begun else self._begin(indices)
        for part in work:
            part.result()
        return torch.from_numpy(batch)

    def expect(self, indices: Tensor) -> None:
        """Begin to decode images that are read soon."""
        if not any(torch.equal(each[0], indices) for each in self._coming):
            self._coming = [*self._coming[-AHEAD:], self._begin(indices)]

    def _begin(self, indices: Tensor) -> tuple[Tensor, np.ndarray, list[Future]]:
        batch = np.empty((len(indices), *self.shape), np.float32)
        file_rows = self.rows[indices].tolist()

        def fill(part: np.ndarray) -> None:
            for row in part:
                batch[row] = self._pixels(file_rows[row])

        parts = np.array_split(np.arange(len(file_rows)), min(len(file_rows), 2 * THREADS) or 1)
        return indices, batch, [pool().submit(fill, part) for part in parts]

    def _pixels(self, row: int) -> np.ndarray:
        name = self.files.name(row)
        pixels = decode(self.files.read(row), name, self.recipe)
        if pixels.shape[1:] != self.shape[1:]:
            raise InputError(f"{name}: has changed since the data set was opened; run again")
        return pixels if pixels.dtype == np.float32 else pixels.astype(np.float32) / 255


def open_encoded(
    name: str,
    files: Files,
    splits: Mapping[str, tuple[Tensor, Tensor]],
    classes: tuple[str, ...],
    options: ImageOptions,
    look: Callable[[Files, bool, bool], Scan] = scan,
) -> Dataset:
    """Return the data set of encoded images.

    Args:
        name: its name in reports.
        files: all images, in the order in which they are hashed.
        splits: "test" and perhaps "train", each with numbers of images and their labels.
        classes: names of the classes.
        options: how images are resized, and what becomes of those that cannot be read.
        look: opens the files.

    Raises:
        InputError: files cannot be read or have several sizes, and no option says what to do.
    """
    result = look(files, options.skip, not options.resizes)
    width, height, _ = result.sizes[0]
    recipe = options.recipe((width, height), len(result.sizes) > 1)
    notes = []
    if recipe is None:
        refuse_several(files, result)
    else:
        reason = "" if options.chosen else ", as the configuration of the model asks"
        notes.append(f"Images of {name} are resized when they are read{reason}: {recipe}.")
    left_out = torch.tensor([number for number, _ in result.left_out], dtype=torch.int64)
    if len(left_out):
        reasons = "; ".join(reason for _, reason in result.left_out[:NAMED])
        more = f"; and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
        single = len(left_out) == 1
        subject = f"1 file of {name} is" if single else f"{len(left_out)} files of {name} are"
        notes.append(f"{subject} left out: {reasons}{more}.")
    shape = (1 if result.grey else 3, *((height, width) if recipe is None else recipe.size))
    encoded = {}
    for split, (rows, labels) in splits.items():
        readable = ~torch.isin(rows, left_out)
        if not readable.any():
            raise InputError(f"{name}: no image of the {split} split can be read")
        encoded[split] = EncodedSplit(files, rows[readable], labels[readable], shape, recipe)
    sha256 = result.sha256
    if recipe is not None:
        sha256 = hashlib.sha256(f"{sha256} {recipe}".encode()).hexdigest()
    return Dataset(
        name, encoded["test"], encoded.get("train"), classes, sha256, tuple(notes), result.sha256
    )
