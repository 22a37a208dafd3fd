"""Stored adversarial images of audits, found without reading the work units that have others."""

from __future__ import annotations

import json
import math
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import torch

from scotoma.data.dataset import Dataset
from scotoma.results.comparison.audits import Audit, Audits
from scotoma.results.examples import EXAMPLE, ROUNDING, unpack
from scotoma.utils.errors import InputError

GREY = 0.5


class Album:
    """Pictures of the compared images.

    Args:
        audits: the audits.
        data: the audited data, for the original images; None shows perturbations around grey.

    Raises:
        InputError: the data are not those that were audited.
    """

    def __init__(self, audits: Audits, data: Dataset | None):
        self.audits, self.data = audits, data
        audited = audits.each[0].identity["data_sha256"]
        if data is not None and data.sha256 != audited:
            raise InputError(f"data={data.name}: are not the data of these audits, {audits.data}")
        self._stores = {audit.name: _Store(audit) for audit in audits}

    def row(self, place: int) -> np.ndarray | None:
        """Return the original if there are data, then a picture for each audit: (k, c, h, w).

        An audit shows its smallest adversarial image, or the perturbation without data; the
        original, or plain grey, if it has none. None if an image is not stored or cannot be shown.
        """
        index, norm = int(self.audits.indices[place]), self.audits.threat.norm
        original = self.data.test.images(torch.tensor([index]))[0].numpy() if self.data else None
        shape = self._shape(original)
        if shape is None:
            return None
        unchanged = np.full(shape, GREY, np.float32) if original is None else original
        made = [] if original is None else [original]
        for audit in self.audits:
            attack = audit.rows[f"{norm}_attack"][place]
            picture = unchanged
            if attack is not None:
                picture = self._stores[audit.name].picture(attack, index, original)
            if picture is None or picture.size != math.prod(shape):
                return None
            made.append(picture.reshape(shape))
        return np.stack(made)

    def _shape(self, original: np.ndarray | None) -> tuple[int, ...] | None:
        """Return (c, h, w): of the original, or of a model's card."""
        if original is not None:
            return original.shape
        cards = (audit.report.provenance.get("model", {}).get("shape") for audit in self.audits)
        return next((tuple(shape) for shape in cards if shape), None)


class _Store:
    """The adversarial images in the folder of an audit; work units are read when first needed."""

    def __init__(self, audit: Audit):
        self.folder = audit.report.folder
        self._tables: dict[Path, pl.DataFrame] = {}

    def picture(self, attack: str, index: int, original: np.ndarray | None) -> np.ndarray | None:
        """Return an adversarial image of the test set itself, or its perturbation, flat."""
        for path in self._units.get(attack, ()):
            if path not in self._tables:
                columns = ["index", EXAMPLE, ROUNDING]
                self._tables[path] = pl.read_parquet(path, columns=columns)
            row = self._tables[path].filter(pl.col("index") == index, pl.col(EXAMPLE).is_not_null())
            if not len(row):
                continue
            if original is not None:
                return _whole(row, original)
            if row[ROUNDING].null_count():
                return None  # stored whole: there is no perturbation without the original
            return np.clip(GREY + row[EXAMPLE].to_numpy()[0] / 2, 0, 1)
        return None

    @cached_property
    def _units(self) -> dict[str, list[Path]]:
        """Attack to its work units on the test set itself; damaged files are `verify`'s to name."""
        found: dict[str, list[Path]] = {}
        for path in sorted((self.folder / "units").glob("*.parquet")):
            try:
                config = json.loads(pl.read_parquet_metadata(path)["scotoma"])
                if config.get("kind") == "attack" and config.get("transform") is None:
                    names = pl.scan_parquet(path).select(pl.col("attack").first()).collect()
                    found.setdefault(names.item(), []).append(path)
            except (KeyError, ValueError, OSError, pl.exceptions.PolarsError):
                continue
        return found


def _whole(row: pl.DataFrame, original: np.ndarray) -> np.ndarray | None:
    try:
        return unpack(row, original.reshape(1, -1))[EXAMPLE].to_numpy()[0]
    except ValueError:
        return None
