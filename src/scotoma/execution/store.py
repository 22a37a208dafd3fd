"""The run folder. Every file is written whole or not at all, by one run at a time.

claim.json        what is audited; a run of another claim is refused
units/*.parquet   one table a work unit, named by the hashes of its configuration and its content
findings/*.json   each probe's finding with its figures, once all evidence is in
records.parquet   every record of the run, without the images
ledger.parquet    the records joined by image: the smallest perturbation that any attack gave
findings.json     the audit's result, for other tools
report.html       the audit's result, for people
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from scotoma.execution.budget import Budget, OutOfTimeError
from scotoma.execution.ranks import Ranks, appears, ranks
from scotoma.results.examples import LEVEL
from scotoma.utils.errors import InputError
from scotoma.utils.files import read_json, write_json, write_whole

CONFIG = "scotoma"
"""Key of a unit's configuration in its Parquet metadata."""


class Store:
    """A run folder of one claim, created if it is missing.

    Args:
        claim: what identifies the claim; a folder with another claim raises `InputError`.
        budget: how long to wait for tables that another process computes.
        group: the processes that share the run; None is those that `torchrun` started.
    """

    def __init__(
        self,
        folder: Path,
        claim: dict[str, Any],
        budget: Budget | None = None,
        group: Ranks | None = None,
    ):
        self.folder = folder
        self.units = folder / "units"
        self.budget = budget or Budget()
        self.ranks = group or ranks()
        event = f"opened {folder}"
        if not self.ranks.leads:
            self.ranks.wait(event)
            if not appears((folder / "claim.json").exists):
                raise InputError(
                    f"{folder}: is not the same folder for all machines; choose a folder that they "
                    "share (out=FOLDER)"
                )
        self._open(claim)
        self.ranks.done(event)

    def _open(self, claim: dict[str, Any]) -> None:
        folder, path = self.folder, self.folder / "claim.json"
        partial = f".{path.name}."  # prefix of a temporary file that a killed process left
        if path.exists():
            existing = read_json(path)
            if differs := [key for key in claim if existing.get(key) != claim[key]]:
                key = differs[0]
                raise InputError(
                    f"{folder}: the run of another claim ({key} {existing.get(key)!r} there, "
                    f"{claim[key]!r} here); choose another out=FOLDER"
                )
        elif folder.is_dir() and not all(
            file.name.startswith(partial) for file in folder.iterdir()
        ):
            raise InputError(
                f"{folder}: is not empty and not a run of scotoma; choose another out=FOLDER"
            )
        else:
            write_json(path, claim)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder for all processes of the run, until the leading process ends.

        Raises `InputError` if another run has locked it.
        """
        locked = f"locked {self.folder}"
        if not self.ranks.leads:
            self.ranks.wait(locked)
            yield
            return
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(
                    f"{self.folder}: another audit is writing there; wait for it or choose another "
                    "out=FOLDER"
                ) from None
            for partial in self.units.glob(".*"):  # of a run that was killed while it wrote
                partial.unlink()
            self.ranks.done(locked)
            yield

    def unit(self, config: dict[str, Any], compute: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        """Return the table that `compute` returns, computed once for each configuration.

        The file is named by the hashes of `config` and of its content; a damaged or altered one is
        computed again. Raises `OutOfTimeError` if another process computes it and the budget ends.
        """
        unit = Unit(config, compute)
        table = self._read(unit)
        if table is not None:
            return table
        if not self.ranks.claim(self._name(unit)):
            if not self.ranks.wait(self._name(unit), self.budget.left):
                raise OutOfTimeError

            def read() -> bool:
                nonlocal table
                table = self._read(unit)
                return table is not None

            if appears(read) and table is not None:
                return table
        return self._computed(unit)

    def each(self, units: Iterable[Unit]) -> Iterator[pl.DataFrame]:
        """Yield the table of each unit, in this order.

        Each of several processes first computes the units that no other has begun.
        """
        units = list(units)
        for unit in units if self.ranks.world > 1 else ():
            on_disk = any(self.units.glob(f"{unit.key}.*"))
            if not on_disk and self.ranks.claim(self._name(unit)):
                self._computed(unit)
        for unit in units:
            yield self.unit(unit.config, unit.compute)

    def _computed(self, unit: Unit) -> pl.DataFrame:
        table = unit.compute()
        write_unit(self.units, unit, table)
        self.ranks.done(self._name(unit))
        return table

    def _read(self, unit: Unit) -> pl.DataFrame | None:
        """Return the table on disk, if any; damaged files are deleted."""
        for path in self.units.glob(f"{unit.key}.*"):
            content = path.read_bytes()
            if path.name == _unit_name(unit.key, content):
                return pl.read_parquet(io.BytesIO(content))
            path.unlink(missing_ok=True)
        return None

    def _name(self, unit: Unit) -> str:
        return f"{self.folder} {unit.key}"


@dataclass(frozen=True)
class Unit:
    """A piece of work: the configuration that decides its table, and how to compute it."""

    config: dict[str, Any]
    compute: Callable[[], pl.DataFrame]

    @cached_property
    def text(self) -> str:
        return json.dumps(self.config, sort_keys=True)

    @cached_property
    def key(self) -> str:
        return _digest(self.text.encode(), 32)


def write_unit(folder: Path, unit: Unit, table: pl.DataFrame) -> Path:
    """Write the table of a unit and return its path."""
    content = _parquet(table, {CONFIG: unit.text})
    path = folder / _unit_name(unit.key, content)
    write_whole(path, content)
    return path


def _unit_name(key: str, content: bytes) -> str:
    return f"{key}.{_digest(content, 16)}.parquet"


def _digest(content: bytes, length: int) -> str:
    return hashlib.sha256(content).hexdigest()[:length]


def write_parquet(path: Path, table: pl.DataFrame) -> None:
    """Write a table whole or not at all."""
    write_whole(path, _parquet(table))


def _parquet(table: pl.DataFrame, metadata: dict[str, str] | None = None) -> bytes:
    content = io.BytesIO()  # the library's own errors for a full disk are not OSErrors
    table.write_parquet(content, compression="zstd", compression_level=LEVEL, metadata=metadata)
    return content.getvalue()
