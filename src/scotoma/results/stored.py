"""Stored adversarial images of the test set itself, without reading work units that have others."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from scotoma.results.examples import EXAMPLE, ROUNDING, spread, unpack

CRAFTED = " on "
"""Separates attack and source in the name of an attack with examples of another model."""


class Stored:
    """The adversarial images in a run folder; a work unit is read when it is first needed.

    >>> Stored(Path("nowhere")).perturbation("FGSM()", 3) is None
    True
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._tables: dict[Path, pl.DataFrame] = {}

    def adversarial(self, attack: str, index: int, original: np.ndarray) -> np.ndarray | None:
        """Return the adversarial image that an attack made of a test image; None if not stored.

        The attack is named as in the ledger, and the original image is (c, h, w).
        """
        row = self._row(attack, index)
        if row is None:
            return None
        try:
            flat = unpack(row, original.reshape(1, -1))[EXAMPLE].to_numpy()[0]
        except ValueError:  # another size
            return None
        return flat.reshape(original.shape)

    def perturbation(self, attack: str, index: int) -> np.ndarray | None:
        """Return the perturbation, flat; None where the image is stored whole or not at all."""
        row = self._row(attack, index)
        if row is None or row[ROUNDING].null_count():
            return None
        content = row[EXAMPLE][0]
        return spread(content) if isinstance(content, bytes) else row[EXAMPLE].to_numpy()[0]

    def _row(self, attack: str, index: int) -> pl.DataFrame | None:
        selection = (pl.col("index") == index) & pl.col(EXAMPLE).is_not_null()
        for path in self._paths(attack):
            if path not in self._tables:
                columns = ["index", EXAMPLE, ROUNDING]
                self._tables[path] = pl.read_parquet(path, columns=columns)
            row = self._tables[path].filter(selection)
            if len(row):
                return row
        return None

    def _paths(self, attack: str) -> list[Path]:
        if attack in self._units:
            return self._units[attack]
        name, on, source = attack.rpartition(CRAFTED)
        return self._units.get(f"{name}{on}{source[-8:]}", [])  # the first digits of its hash

    @cached_property
    def _units(self) -> dict[str, list[Path]]:
        """Attack to its work units; damaged files are omitted (`verify` names them)."""
        paths: dict[str, list[Path]] = {}
        for path in sorted((self.folder / "units").glob("*.parquet")):
            try:
                config = json.loads(pl.read_parquet_metadata(path)["scotoma"])
                if config.get("kind") not in ("attack", "crafted") or config.get("transform"):
                    continue
                name = pl.scan_parquet(path).select(pl.col("attack").first()).collect().item()
            except (KeyError, ValueError, OSError, pl.exceptions.PolarsError):
                continue
            crafted = config["kind"] == "crafted"
            key = f"{name}{CRAFTED}{config['model'][:8]}" if crafted else name
            paths.setdefault(key, []).append(path)
        return paths
