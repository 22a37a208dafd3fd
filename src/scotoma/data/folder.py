"""A user's own image files: `test/CLASS/image.png`, and `train/CLASS/image.png`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from scotoma.data.dataset import Dataset
from scotoma.data.decoding import SUFFIXES
from scotoma.data.encoded import open_encoded
from scotoma.data.input import ImageOptions
from scotoma.data.scan import remembered
from scotoma.utils.errors import InputError

TEST = ("test", "val", "validation")
"""Folders of test images; the first that is there counts."""


@dataclass(frozen=True)
class FolderFiles:
    """Image files of a folder.

    Args:
        folder: the folder.
        names: their names in it, "test/CLASS/IMAGE"; paths would take four times the memory.
    """

    folder: Path
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return f"{self.folder}/{self.names[index]}"

    def key(self, index: int) -> str:
        return self.names[index]

    def read(self, index: int) -> bytes:
        try:
            return (self.folder / self.names[index]).read_bytes()
        except OSError as error:
            raise InputError(f"{self.name(index)}: cannot be read ({error.strerror})") from None

    def state(self) -> str:
        """Return what changes if a file does: names, sizes, times and inodes."""
        lines = [str(self.folder.resolve())]
        for name in self.names:
            try:
                facts = os.stat(f"{self.folder}/{name}")  # noqa: PTH116  a path takes longer
            except OSError as error:
                raise InputError(
                    f"{self.folder / name}: cannot be read ({error.strerror})"
                ) from None
            lines.append(f"{name} {facts.st_size} {facts.st_mtime_ns} {facts.st_ino}")
        return "\n".join(lines)


def folder(path: Path, options: ImageOptions | None = None) -> Dataset:
    """A folder of image files: test/CLASS/IMAGE and, for some probes, train/CLASS/IMAGE.

    Instead of test/ the folder may have val/ or validation/, or the classes themselves. Classes are
    numbered in the alphabetical order of their names. Images are grey if all files are, else RGB; 8
    bits a channel, or 16 bits for grey. Headers are checked here, pixels when they are read. The
    content is read once to be hashed; files that did not change since are not read again.
    """
    parts = _parts(path)
    folders = {entry.name for place in parts.values() for entry in _folders(path / place)}
    classes = tuple(sorted(folders))
    names, counts = [], {}
    for name in classes:
        if not any(_images(path, f"{place}/{name}".strip("/")) for place in parts.values()):
            if inside := _deeper(path, parts, name):
                raise InputError(
                    f"{path}: class {name} has images in folders of its own, such as {inside}; "
                    "move them up, so that they are CLASS/IMAGE"
                )
            raise InputError(
                f"{path}: class {name} has no images; remove its empty folder, which would take a "
                "number from the others"
            )
    for place in parts.values():
        here = [_images(path, f"{place}/{name}".strip("/")) for name in classes]
        if not any(here):
            raise InputError(f"{path / place}: no images; want {path / place}/CLASS/IMAGE.png")
        counts[place] = torch.tensor([len(images) for images in here])
        names += [name for images in here for name in images]
    files, splits, start = FolderFiles(path, names), {}, 0
    for split, place in parts.items():
        labels = torch.arange(len(classes)).repeat_interleave(counts[place])
        splits[split] = torch.arange(start, start + len(labels)), labels
        start += len(labels)
    name = f"folder:{path.resolve().name}"
    return open_encoded(name, files, splits, classes, options or ImageOptions(), remembered)


def _parts(path: Path) -> dict[str, str]:
    """Return the folders of the splits, relative to `path`."""
    train = {"train": "train"} if (path / "train").is_dir() else {}
    for place in TEST:
        if (path / place).is_dir():
            return {"test": place, **train}
    if not train and any(_images(path, entry.name) for entry in _folders(path)):
        return {"test": ""}
    if not path.is_dir():
        raise InputError(f"{path}: no such folder")
    raise InputError(f"{path}: no folder test/ there; want {path}/test/CLASS/IMAGE.png")


def _folders(path: Path) -> list[Path]:
    entries = sorted(path.iterdir()) if path.is_dir() else []
    return [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def _deeper(path: Path, parts: dict[str, str], name: str) -> str:
    """Return the first image below folders of a class, from `path`; "" if there is none."""
    every = (each for place in parts.values() for each in (path / place / name).glob("*/**/*"))
    images = (each for each in every if each.suffix.lower() in SUFFIXES)
    return next((str(each.relative_to(path)) for each in images), "")


def _images(root: Path, folder: str) -> list[str]:
    """Return names of the images in a folder, relative to `root`, sorted."""
    path = root / folder
    entries = sorted(os.listdir(path)) if path.is_dir() else []  # noqa: PTH208
    visible = [name for name in entries if not name.startswith(".")]
    return [f"{folder}/{name}" for name in visible if Path(name).suffix.lower() in SUFFIXES]
