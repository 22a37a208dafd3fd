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
"""Files that cannot be read are named up to this number."""


@dataclass(eq=False)
class EncodedSplit:
    """Images that are decoded when needed: only what names them, and their labels, is in memory.

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
        expected = [each for each in self._coming if torch.equal(each[0], indices)]
        self._coming = [each for each in self._coming if not torch.equal(each[0], indices)]
        _, batch, work = expected[0] if expected else self._begin(indices)
        for part in work:
            part.result()
        return torch.from_numpy(batch)

    def expect(self, indices: Tensor) -> None:
        """Begin to decode images that `images` is asked for soon."""
        if not any(torch.equal(each[0], indices) for each in self._coming):
            self._coming = [*self._coming[-AHEAD:], self._begin(indices)]

    def _begin(self, indices: Tensor) -> tuple[Tensor, np.ndarray, list[Future]]:
        batch = np.empty((len(indices), *self.shape), np.float32)
        chosen = self.rows[indices].tolist()

        def fill(part: np.ndarray) -> None:
            for row in part:
                batch[row] = self._pixels(chosen[row])

        parts = np.array_split(np.arange(len(chosen)), min(len(chosen), 2 * THREADS) or 1)
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
    found = look(files, options.skip, not options.resizes)
    width, height, _ = found.sizes[0]
    recipe = options.recipe((width, height), len(found.sizes) > 1)
    notes = []
    if recipe is None:
        refuse_several(files, found)
    else:
        why = "" if options.chosen else ", as the configuration of the model asks"
        notes.append(f"Images of {name} are resized when they are read{why}: {recipe}.")
    left_out = torch.tensor([number for number, _ in found.left_out], dtype=torch.int64)
    if len(left_out):
        reasons = "; ".join(why for _, why in found.left_out[:NAMED])
        more = f"; and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
        one = len(left_out) == 1
        counted = f"1 file of {name} is" if one else f"{len(left_out)} files of {name} are"
        notes.append(f"{counted} left out: {reasons}{more}.")
    shape = (1 if found.grey else 3, *((height, width) if recipe is None else recipe.size))
    made = {}
    for part, (rows, labels) in splits.items():
        kept = ~torch.isin(rows, left_out)
        if not kept.any():
            raise InputError(f"{name}: no image of the {part} split can be read")
        made[part] = EncodedSplit(files, rows[kept], labels[kept], shape, recipe)
    sha256 = found.sha256
    if recipe is not None:
        sha256 = hashlib.sha256(f"{sha256} {recipe}".encode()).hexdigest()
    return Dataset(
        name, made["test"], made.get("train"), classes, sha256, tuple(notes), found.sha256
    )
