"""Data sets of the Hugging Face hub, and folders in its form."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scotoma.data.dataset import Dataset
from scotoma.data.encoded import open_encoded
from scotoma.data.input import ImageOptions
from scotoma.data.parquet import LABELS, numbered
from scotoma.utils.errors import InputError
from scotoma.utils.network import hub_if_reachable
from scotoma.utils.optional import require

TEST = ("test", "validation", "val")
"""Names of test splits; the first that is there counts, else the only split."""


@dataclass(frozen=True)
class HubFiles:
    """Encoded images of splits of a data set, one split after the other.

    Args:
        tables: a `datasets.Dataset` for each split, whose images are not decoded.
        column: name of the images.
        labels: all labels, which are in the hash.
        source: name for errors.
    """

    tables: dict[str, Any]
    column: str
    labels: Tensor
    source: str

    def __len__(self) -> int:
        return sum(map(len, self.tables.values()))

    def _place(self, index: int) -> tuple[str, int]:
        for split, table in self.tables.items():
            if index < len(table):
                return split, index
            index -= len(table)
        raise IndexError(index)

    def name(self, index: int) -> str:
        split, row = self._place(index)
        return f"{self.source} ({split}, row {row})"

    def key(self, index: int) -> str:
        split, row = self._place(index)
        return f"{split} {row} {self.labels[index]}"

    def read(self, index: int) -> bytes:
        split, row = self._place(index)
        value = self.tables[split][row][self.column]
        try:
            content = value.get("bytes") or Path(value["path"]).read_bytes()
        except (OSError, AttributeError, TypeError, KeyError):
            raise InputError(f"{self.name(index)}: has no image that can be read") from None
        return content


def hub(spec: str, options: ImageOptions | None = None) -> Dataset:
    """A data set of the Hugging Face hub, or a folder in its form, with a split after a colon.

    Without a split the test images are those of `test`, `validation` or the only split. Training
    images are those of `train`, if that is another. Images are decoded as those of a folder.
    """
    name, colon, split = spec.rpartition(":")
    if not colon or Path(spec).expanduser().exists():
        name, split = spec, ""
    loaded = _load(name)
    test = split or next((each for each in TEST if each in loaded), None)
    if test is None and len(loaded) == 1:
        test = next(iter(loaded))
    if test is None or test not in loaded:
        lack = f"no split {test!r}" if test else "no test split"
        raise InputError(
            f"hf:{name}: has {lack}, but {', '.join(loaded)}; write hf:{name}:{next(iter(loaded))}"
        )
    tables = {test: loaded[test]}
    if test != "train" and "train" in loaded:
        tables["train"] = loaded["train"]
    image, label = _columns(loaded[test].features, name)
    source = f"hf:{name}"
    names = getattr(loaded[test].features[label], "names", None)
    values = [value for table in tables.values() for value in _labels(table, label, names, source)]
    labels, classes = numbered(values, names, f"{source} ({label})")
    datasets = require("datasets", source)
    plain = {
        part: table.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        for part, table in tables.items()
    }
    splits, start = {}, 0
    for part, table in plain.items():
        rows = torch.arange(start, start + len(table))
        splits["test" if part == test else "train"] = rows, labels[rows]
        start += len(table)
    files = HubFiles(plain, image, labels, source)
    title = f"hf:{Path(name).name if Path(name).expanduser().exists() else name}"
    return open_encoded(title, files, splits, classes, options or ImageOptions())


def _labels(table: Any, label: str, names: list[str] | None, source: str) -> list[Any]:
    """Return the labels of a split by the numbers of `names`: each split may have its own order.

    Raises:
        InputError: the split has a class that is not among them, or no names.
    """
    own, values = getattr(table.features.get(label), "names", None), table[label][:]
    if own == names:
        return values
    number = {name: position for position, name in enumerate(names or ())}
    if own is None or not set(own) <= number.keys():
        raise InputError(
            f"{source}: the classes of the training images are not those of the test images; write "
            "train=DATA for others"
        )
    # a label below 0 is none: `numbered` refuses it
    return [number[own[value]] if value is not None and value >= 0 else value for value in values]


def _load(name: str) -> dict[str, Any]:
    """Return the splits of a data set, from disk or from the hub."""
    datasets = require("datasets", f"data hf:{name}")
    path, online = Path(name).expanduser(), True
    try:
        with _quiet(datasets), contextlib.ExitStack() as stack:
            if any((path / file).exists() for file in ("state.json", "dataset_dict.json")):
                loaded = datasets.load_from_disk(str(path))
            else:
                if not path.exists():
                    online = stack.enter_context(hub_if_reachable())
                loaded = datasets.load_dataset(str(path) if path.exists() else name)
    except Exception as error:  # the library, and whatever it calls, may raise anything
        cause = str(error).strip().partition("\n")[0] or type(error).__name__
        if not online:
            cause = "the hub cannot be reached, and its cache has no such data set"
        raise InputError(
            f"hf:{name}: cannot be loaded ({cause}); write hf:OWNER/NAME or a folder of data files"
        ) from None
    return loaded if isinstance(loaded, dict) else {"test": loaded}


@contextlib.contextmanager
def _quiet(datasets: Any):
    """Show no progress bars of the library."""
    were_shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if were_shown:
            datasets.enable_progress_bars()


def _columns(features: Any, name: str) -> tuple[str, str]:
    """Return the names of the features of images and of labels."""
    kinds = {key: type(feature).__name__ for key, feature in features.items()}
    images = [key for key, kind in kinds.items() if kind == "Image"]
    labels = [key for key in LABELS if key in kinds]
    labels = labels or [key for key, kind in kinds.items() if kind == "ClassLabel"]
    if len(images) != 1 or not labels:
        raise InputError(
            f"hf:{name}: has the features {', '.join(kinds)}; want one of images and one of labels,"
            " named label"
        )
    return images[0], labels[0]
