"""Data in the size and colours in which an audit read them, without its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.data.encoded import EncodedSplit
from scotoma.data.input import InputSpec
from scotoma.data.matching import in_colour
from scotoma.utils.files import read_json


def facts(data: Dataset) -> dict[str, Any]:
    """Return what a report says of data, as JSON values.

    >>> facts(load_data("digits"))["test"]
    500
    """
    recipe, files = getattr(data.test, "recipe", None), data.files_sha256
    return {
        "sha256": data.sha256,
        "train": 0 if data.train is None else len(data.train),
        "test": len(data.test),
        **({"files_sha256": files, "channels": data.shape[0]} if files is not None else {}),
        **({"recipe": asdict(recipe)} if recipe else {}),
    }


def audited_data(
    folder: str | Path, spec: str, root: str | Path | None = None, **images: Any
) -> Dataset:
    """Load data as the audit in a run folder read them.

    Images of the same files get the size and the hash that they had in the audit; classes keep the
    numbers of the data, and only images and hash can be relied on. `spec`, `root` and `images` are
    those of `load_data`.

    Raises:
        InputError: the folder holds no finished audit, or the data cannot be read.
    """
    record = read_json(Path(folder).expanduser() / "findings.json")["provenance"].get("data", {})
    recipe = _recipe(record)
    data = load_data(spec, root, model=recipe, **images)
    if not data.files_sha256 or data.files_sha256 != record.get("files_sha256"):
        return data
    test = data.test
    if isinstance(test, EncodedSplit) and recipe is not None and test.recipe != recipe:
        shape = (test.shape[0], *recipe.size)
        test = EncodedSplit(test.files, test.rows, test.labels, shape, recipe)
    loaded = replace(data, test=test)
    if loaded.shape[0] == 1 and record.get("channels") == 3:
        loaded = in_colour(loaded)
    return replace(loaded, sha256=record["sha256"])


def _recipe(record: Mapping[str, Any]) -> InputSpec | None:
    if (settings := record.get("recipe")) is None:
        return None
    pairs: dict[str, Any] = {
        key: tuple(each) if isinstance(each, list) else each for key, each in settings.items()
    }
    return InputSpec(**pairs)
