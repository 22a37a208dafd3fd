"""The run folder: whole files or none, and one writer.

claim.json        what is audited; another claim is refused
units/*.parquet   one table a work unit, named by the hash of what it is the result of and by that of its content
findings/*.json   each probe's finding with its figures, as soon as it is there
records.parquet   every record of the run, without the images
findings.json     the audit's result, for other tools
report.html       the same for people
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from scotoma.errors import InputError

CONFIG = "scotoma"
"""The key of a unit's configuration in its Parquet metadata."""


class Store:
    """A run folder of one claim.

    Args:
        folder: made where it is missing.
        claim: what identifies the claim; a folder that holds another one raises `InputError`.
    """

    def __init__(self, folder: Path, claim: dict[str, Any]):
        self.folder = folder
        held = folder / "claim.json"
        if held.exists():
            other = read_json(held)
            differs = [key for key in claim if other.get(key) != claim[key]]
            if differs:
                key = differs[0]
                raise InputError(
                    f"{folder}: the run of another claim ({key} {other.get(key)!r} there, {claim[key]!r} here); "
                    "choose another --out"
                )
        elif folder.is_dir() and any(not _is_partial(path, held) for path in folder.iterdir()):
            raise InputError(f"{folder}: is not empty and not a run of scotoma; choose another --out")
        else:
            write_json(held, claim)
        self.units = folder / "units"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; `InputError` where another process does. The lock goes with the process, however it ends."""
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f"{self.folder}: another audit is writing there; wait for it or choose another --out") from None
            for left in self.units.glob(".*"):  # by a run that was killed while it wrote
                left.unlink()
            yield

    def unit(self, config: dict[str, Any], compute: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        """The table that `compute` makes, computed once for each configuration.

        The file is named by the hashes of `config` and of its own content. One that was cut short or altered is computed again.
        """
        text = json.dumps(config, sort_keys=True)
        key = _digest(text.encode(), 32)
        for path in self.units.glob(f"{key}.*"):
            content = path.read_bytes()
            if path.name == _unit_name(key, content):
                return pl.read_parquet(io.BytesIO(content))
            path.unlink()
        table = compute()
        content = _parquet(table, {CONFIG: text})
        write_whole(self.units / _unit_name(key, content), content)
        return table


def _unit_name(key: str, content: bytes) -> str:
    return f"{key}.{_digest(content, 16)}.parquet"


def _digest(content: bytes, length: int) -> str:
    return hashlib.sha256(content).hexdigest()[:length]


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` in place of `path`, durable, whole or not at all. An `OSError` names the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # a full disk does not say which file was too much
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_parquet(path: Path, table: pl.DataFrame) -> None:
    """Write a table whole or not at all."""
    write_whole(path, _parquet(table))


def _parquet(table: pl.DataFrame, metadata: dict[str, str] | None = None) -> bytes:
    content = io.BytesIO()  # the library's own errors for a full disk are not OSErrors
    table.write_parquet(content, metadata=metadata)
    return content.getvalue()


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all. Raises ValueError for NaN and infinity, which JSON has not."""
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    write_whole(path, f"{text}\n".encode())


def read_json(path: Path) -> Any:
    """Read JSON. Raises `InputError` where the file is missing or broken."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is {path.parent} the folder of a finished run?") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def _is_partial(path: Path, whole: Path) -> bool:
    """Whether a process was killed while it wrote `path` to become `whole`."""
    return path.name.startswith(f".{whole.name}.")
