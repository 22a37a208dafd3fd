"""Images in a Parquet file, as Hugging Face and others write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from scotoma.data.dataset import MOST_CLASSES, Dataset
from scotoma.data.encoded import open_encoded
from scotoma.data.input import ImageOptions
from scotoma.utils.errors import InputError

LABELS = ("label", "labels", "fine_label", "class", "target")
"""Names of the column of labels; the first that is there counts."""
FEATURES = "huggingface"
"""Key of the metadata in which Hugging Face keeps the names of classes."""


@dataclass(frozen=True)
class TableFiles:
    """Encoded images in a column of a table.

    Args:
        column: bytes, or structs of `bytes` and `path`.
        labels: their labels, which are in the hash.
        source: name for errors.
        folder: where paths begin.
    """

    column: pl.Series
    labels: Tensor
    source: str
    folder: Path

    def __len__(self) -> int:
        return len(self.column)

    def name(self, index: int) -> str:
        return f"{self.source} (row {index})"

    def key(self, index: int) -> str:
        return f"{index} {self.labels[index]}"

    def read(self, index: int) -> bytes:
        value = self.column[index]
        if isinstance(value, dict):
            value = value.get("bytes") or self._beside(value.get("path"), index)
        if not isinstance(value, bytes):
            raise InputError(f"{self.name(index)}: has no image")
        return value

    def _beside(self, path: str | None, index: int) -> bytes | None:
        try:
            return None if path is None else (self.folder / path).read_bytes()
        except OSError as error:
            raise InputError(
                f"{self.name(index)}: {path} cannot be read ({error.strerror})"
            ) from None


def parquet(path: Path, options: ImageOptions | None = None) -> Dataset:
    """A Parquet file with encoded images and labels, read through polars.

    The images are the column of bytes, or of structs with `bytes` and `path` as Hugging Face writes
    them. Labels are whole numbers, or names of classes; names of numbers come from the metadata of
    Hugging Face if the file has them. The encoded images of the file are kept in memory.
    """
    try:
        table = pl.read_parquet(path)
        metadata = pl.read_parquet_metadata(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        detail = str(error).partition("\n")[0]
        raise InputError(f"{path}: not a whole Parquet file ({detail})") from None
    images, label = _columns(table, path)
    names = _class_names(metadata.get(FEATURES), label)
    labels, classes = numbered(table[label].to_list(), names, f"{path} ({label})")
    files = TableFiles(table[images], labels, str(path), path.parent)
    splits = {"test": (torch.arange(len(labels)), labels)}
    return open_encoded(f"parquet:{path.name}", files, splits, classes, options or ImageOptions())


def numbered(
    values: Sequence[Any], names: Sequence[str] | None, source: str
) -> tuple[Tensor, tuple[str, ...]]:
    """Return labels as numbers, int64 (n,), and the names of the classes.

    Args:
        values: numbers, or names, which are numbered in alphabetical order.
        names: names of the numbers, if they are known.
        source: name for errors.

    Raises:
        InputError: a label is missing, one-hot, negative or nothing of these.

    >>> numbered(["dog", "cat"], None, "mine")
    (tensor([1, 0]), ('cat', 'dog'))
    """
    if not len(values):
        raise InputError(f"{source}: there are no images")
    if None in values:
        raise InputError(f"{source}: row {values.index(None)} has no label (counted from 0)")
    if all(isinstance(value, str) for value in values):
        classes = tuple(sorted(set(values)))
        number = {name: label for label, name in enumerate(classes)}
        return torch.tensor([number[value] for value in values]), classes
    if any(isinstance(value, list | tuple) for value in values):
        raise InputError(f"{source}: labels are lists, as one-hot labels are; want class numbers")
    invalid = [value for value in values if not isinstance(value, int) or isinstance(value, bool)]
    if invalid:
        raise InputError(f"{source}: has the label {invalid[0]!r}; want class numbers or names")
    low, high = min(values), max(values)
    most = MOST_CLASSES if names is None else len(names)
    if low < 0 or high >= most:
        hint = "-1 is for images without a label; choose a split with labels" if low < 0 else ""
        raise InputError(
            f"{source}: labels reach from {low} to {high}; classes are numbered from 0"
            + (f" and there are {most}" if names is not None else "")
            + (f" ({hint})" if hint else "")
        )
    classes = tuple(names) if names is not None else tuple(map(str, range(high + 1)))
    return torch.tensor(values, dtype=torch.int64), classes


def _columns(table: pl.DataFrame, path: Path) -> tuple[str, str]:
    """Return the names of the columns of images and of labels."""
    kinds = dict(table.schema)
    images = [
        name
        for name, kind in kinds.items()
        if kind == pl.Binary
        or (isinstance(kind, pl.Struct) and "bytes" in {each.name for each in kind.fields})
    ]
    labels = [name for name in LABELS if name in kinds]
    if not labels:
        plain = [name for name, kind in kinds.items() if kind.is_integer() or kind == pl.String]
        labels = plain if len(plain) == 1 else []
    if len(images) != 1 or not labels:
        raise InputError(
            f"{path}: has the columns {', '.join(kinds)}; want one of encoded images (bytes, or "
            "structs with bytes) and one of labels, named label"
        )
    return images[0], labels[0]


def _class_names(text: str | None, column: str) -> list[str] | None:
    """Return the names of classes in the metadata of Hugging Face."""
    try:
        feature = json.loads(text or "")["info"]["features"][column]
    except (ValueError, KeyError, TypeError):
        return None
    names = feature.get("names") if isinstance(feature, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else None
