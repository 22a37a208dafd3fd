"""A user's own image files: `train/CLASS/image.png` and `test/CLASS/image.png`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scotoma.data.dataset import Dataset
from scotoma.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}


class FolderSplit:
    """Image files read when they are asked for, so that memory does not grow with their number."""

    def __init__(self, folder: Path, classes: tuple[str, ...]):
        found = [
            (path, label)
            for label, name in enumerate(classes)
            for path in sorted((folder / name).glob("*"))
            if path.suffix.lower() in SUFFIXES
        ]
        if not found:
            raise InputError(f"{folder}: no images; want {folder}/CLASS/IMAGE.png")
        self.paths = [path for path, _ in found]
        self.labels = torch.tensor([label for _, label in found])
        first = _decode(self.paths[0])
        self.shape: tuple[int, int, int] = first.shape

    def __len__(self) -> int:
        return len(self.paths)

    def images(self, indices: Tensor) -> Tensor:
        batch = np.empty((len(indices), *self.shape), np.uint8)
        for row, index in enumerate(indices.tolist()):
            image = _decode(self.paths[index])
            if image.shape != self.shape:
                raise InputError(
                    f"{self.paths[index]}: is {image.shape} (channels, height, width), the first image {self.shape}; "
                    "make all images of one size"
                )
            batch[row] = image
        return torch.from_numpy(batch).float().div_(255)


def folder(path: Path) -> Dataset:
    """A folder of images: test/CLASS/IMAGE and, for probes that need it, train/CLASS/IMAGE."""
    if not (path / "test").is_dir():
        raise InputError(f"{path}: no folder test/ there; want {path}/test/CLASS/IMAGE.png")
    parts = [part for part in ("train", "test") if (path / part).is_dir()]
    classes = tuple(sorted({entry.name for part in parts for entry in (path / part).iterdir() if entry.is_dir()}))
    splits = {part: FolderSplit(path / part, classes) for part in parts}
    if len({split.shape for split in splits.values()}) > 1:
        raise InputError(f"{path}: training images are {splits['train'].shape}, test images {splits['test'].shape}")
    digest = hashlib.sha256()
    for split in splits.values():
        for file in split.paths:
            digest.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
    return Dataset(f"folder:{path.name}", splits["test"], splits.get("train"), classes, digest.hexdigest())


def _decode(path: Path) -> np.ndarray:
    """uint8 (c, h, w): one channel for grey images, three otherwise."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA", "I;16") else "RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from None
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
