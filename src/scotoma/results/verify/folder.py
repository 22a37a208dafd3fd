"""The files of a run, read without trust in their names."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file

from scotoma.results.examples import EXAMPLE, ROUNDING, as_bytes
from scotoma.results.ledger import read_table
from scotoma.utils.errors import InputError

NORMS = ("l0", "l1", "l2", "linf")
ONE = ("attack", "transform", "index")
"""Columns that name a record."""
IMAGE = (EXAMPLE, ROUNDING)
"""Columns of its image."""
SLACK = 1e-6
"""Rounding of a perturbation and of its size; relative if the size is above 1."""


@dataclass(frozen=True)
class Check:
    """One line of the result: what was compared, whether it agrees (None: not decided), details."""

    name: str
    agrees: bool | None
    detail: str


class Folder:
    """The files of a run, read without trust in their names."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.claim, self.findings = self._json("claim.json"), self._json("findings.json")
        self.records = read_table(folder / "records.parquet")
        self.ledger = read_table(folder / "ledger.parquet")

    def _json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            return json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise InputError(
                f"{path}: no such file; is {self.folder} the folder of a finished audit?"
            ) from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from None

    @cached_property
    def units(self) -> list[tuple[Path, dict[str, Any] | None, pl.DataFrame | None, bool]]:
        """Path, configuration and table of each unit, and whether its name fits its content."""
        entries = []
        for path in sorted((self.folder / "units").glob("*.parquet")):
            content = path.read_bytes()
            try:
                text = pl.read_parquet_metadata(io.BytesIO(content))["scotoma"]
                config, table = json.loads(text), pl.read_parquet(io.BytesIO(content))
            except (KeyError, ValueError, OSError, pl.exceptions.PolarsError):
                entries.append((path, None, None, False))
                continue
            key, code = (hashlib.sha256(each).hexdigest() for each in (text.encode(), content))
            name_fits = path.name == f"{key[:32]}.{code[:16]}.parquet"
            entries.append((path, config, table, name_fits))
        return entries

    def of_kind(self, kind: str) -> Iterator[tuple[dict[str, Any], pl.DataFrame]]:
        """Yield configuration and table of the units of a kind that belong to this audit.

        A folder that was used again with another seed holds units of both.
        """
        seed = self.findings["provenance"].get("seed")
        for _, config, table, _ in self.units:
            if config is None or table is None or config.get("kind") != kind:
                continue
            if config.get("seed", seed) == seed:
                yield config, table

    @cached_property
    def images(self) -> pl.DataFrame:
        """Stored images of records: attack, transform, index, code, config of the transform."""
        tables = [
            (table, json.dumps(config.get("transform"))) for config, table in self.of_kind("attack")
        ]
        tables += [
            (table.with_columns(attack=pl.lit(label), transform=pl.lit("none")), "null")
            for label, table in self._crafted()
        ]
        parts = [
            as_bytes(with_image).select(*ONE, *IMAGE, change=pl.lit(change))
            for table, change in tables
            if len(with_image := table.filter(pl.col(EXAMPLE).is_not_null()))
        ]
        return pl.concat(parts).unique(ONE, keep="first") if parts else pl.DataFrame()

    @cached_property
    def crafted(self) -> list[str]:
        """Attacks on other models whose examples were tried, as records name them."""
        return [label for label, _ in self._crafted()]

    def _crafted(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """Yield the name in records and the table of each unit of examples of other models."""
        labels = self.records["attack"].unique().to_list() if len(self.records) else []
        for config, table in self.of_kind("crafted"):
            # a record names the attack, and the source with the first digits of its hash
            head, tail = f"{table['attack'][0]} on ", f" {config['model'][:8]}"
            for label in labels:
                if label.startswith(head) and label.endswith(tail):
                    yield label, table

    def galleries(self) -> Iterator[tuple[list[list[str]], np.ndarray]]:
        """Yield captions and images (rows, columns, c, h, w) of galleries of adversarial images."""
        for each in self.findings["findings"]:
            path = self.folder / "findings" / f"{each['probe']}.safetensors"
            figures = self._json(f"findings/{each['probe']}.json")["figures"]
            figures = [figure for figure in figures if figure.get("adversarial")]
            try:
                images = load_file(path) if figures else {}
            except (SafetensorError, OSError) as error:
                raise InputError(f"{path}: cannot be read ({error})") from None
            for figure in figures:
                yield figure["captions"], images[figure["images"]]

    @property
    def keep(self) -> str:
        """Which adversarial images the audit says that it kept, a value of `audit(keep=)`."""
        return self.findings.get("provenance", {}).get("keep", "examples")

    @property
    def keeps_all(self) -> bool:
        """Whether the audit says that it kept all adversarial images."""
        return self.keep == "examples"
