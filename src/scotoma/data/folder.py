"""A user's own image files: `train/CLASS/image.png` and `test/CLASS/image.png`."""

from __future__ import annotations

import hashlib
import os
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scotoma.data.dataset import Dataset
from scotoma.utils.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
DEEP = {"I;16", "I;16L", "I;16B"}
GREY = {"1", "L", "LA"} | DEEP


class FolderSplit:
    """Image files that are read when needed: only their names and labels are in memory.

    Args:
        folder: folder of the files.
        names: names of the files, "CLASS/IMAGE".
        labels: class of each file.
        shape: channels, height and width; grey files get three channels if others are in colour.
    """

    def __init__(self, folder: Path, names: list[str], labels: Tensor, shape: tuple[int, int, int]):
        self.folder = folder
        self.names = names
        self.labels = labels
        self.shape = shape

    def __len__(self) -> int:
        return len(self.names)

    def images(self, indices: Tensor) -> Tensor:
        batch = np.empty((len(indices), *self.shape), np.float32)
        for row, index in enumerate(indices.tolist()):
            batch[row] = _pixels(self.folder / self.names[index])
        return torch.from_numpy(batch)


def folder(path: Path) -> Dataset:
    """A folder of images of one size: test/CLASS/IMAGE and, for some probes, train/CLASS/IMAGE.

    Classes are numbered in the alphabetical order of their names. Images are grey if all files are,
    else RGB; 8 bits a channel, or 16 bits for grey. Headers are checked here, pixels when they are
    read.
    """
    if not (path / "test").is_dir():
        raise InputError(f"{path}: no folder test/ there; want {path}/test/CLASS/IMAGE.png")
    parts = [part for part in ("test", "train") if (path / part).is_dir()]
    folders = {entry.name for part in parts for entry in (path / part).iterdir() if entry.is_dir()}
    classes = tuple(sorted(name for name in folders if not name.startswith(".")))
    files = {part: _files(path / part, classes) for part in parts}
    digest = hashlib.sha256()
    kinds: dict[tuple[int, int], Path] = {}
    grey = True
    for where, name in ((part, name) for part in parts for name in files[part][0]):
        file = path / where / name
        content, size, mode = _header(file)
        digest.update(f"{where}/{name} {len(content)}\n".encode())
        digest.update(content)
        kinds.setdefault(size, file)
        grey = grey and mode in GREY
        if len(kinds) > 1:
            (first, one), (second, other) = kinds.items()
            raise InputError(
                f"{other}: is {second[0]}x{second[1]} pixels, {one} is {first[0]}x{first[1]}; "
                "make all images of one size"
            )
    (width, height) = next(iter(kinds))
    shape = (1 if grey else 3, height, width)
    splits = {part: FolderSplit(path / part, *files[part], shape) for part in parts}
    name = f"folder:{path.resolve().name}"
    return Dataset(name, splits["test"], splits.get("train"), classes, digest.hexdigest())


def _files(folder: Path, classes: tuple[str, ...]) -> tuple[list[str], Tensor]:
    """Return names "CLASS/IMAGE" and labels, sorted; paths would take four times the memory."""
    names: list[str] = []
    counts = []
    for name in classes:
        files = sorted(os.listdir(folder / name)) if (folder / name).is_dir() else []  # noqa: PTH208
        visible = [file for file in files if not file.startswith(".")]
        images = [f"{name}/{file}" for file in visible if Path(file).suffix.lower() in SUFFIXES]
        names += images
        counts.append(len(images))
    if not names:
        raise InputError(f"{folder}: no images; want {folder}/CLASS/IMAGE.png")
    return names, torch.arange(len(classes)).repeat_interleave(torch.tensor(counts))


def _header(path: Path) -> tuple[bytes, tuple[int, int], str]:
    """Return the bytes of a file, its width and height, and its mode."""
    from PIL import Image

    try:
        content = path.read_bytes()
        with Image.open(BytesIO(content)) as image:
            size, mode = image.size, image.mode
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path}: cannot be read as an image ({type(error).__name__})") from None
    if mode in ("I", "F"):
        raise InputError(
            f"{path}: has pixels of 32 bits, whose range is unknown; save it with 8 or 16 bits"
        )
    return content, size, mode


def _pixels(path: Path) -> np.ndarray:
    """Return float32 (1 or 3, h, w) in [0, 1]."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.mode in DEEP:  # Pillow would clip these at 255
                return (np.asarray(image, np.float32) / 65535)[None]
            converted = image.convert("L" if image.mode in GREY else "RGB")
            pixels = np.asarray(converted, np.float32) / 255
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from None
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
