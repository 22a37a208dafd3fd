"""What a run has measured so far: records by attack and transform, their images, certificates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from scotoma.results.ledger import Ledger

Reader = Callable[[list[int]], pl.DataFrame]
"""From test images to a table with `index` and `records.EXAMPLE`, read from disk."""


@dataclass
class Collection:
    """The records of a run, which all of its probes share.

    Args:
        parent: another collection, to which everything is added as well.
    """

    parent: Collection | None = None
    _records: dict[tuple[str, str], pl.DataFrame] = field(default_factory=dict)
    _readers: dict[tuple[str, str], list[Reader]] = field(default_factory=dict)
    _certified: dict[tuple[str, str], pl.DataFrame] = field(default_factory=dict)

    def keep(self, records: pl.DataFrame, attack: str, transform: str, read: Reader) -> None:
        """Keep the records of an attack; those of the same images replace earlier ones."""
        key = attack, transform
        earlier = self._records.get(key)
        if earlier is not None and len(rest := earlier.join(records, on="index", how="anti")):
            self._records[key] = pl.concat([records, rest])
            self._readers[key] = [read, *self._readers[key]]
        else:
            self._records[key], self._readers[key] = records, [read]
        if self.parent:
            self.parent.keep(records, attack, transform, read)

    def adopt(self, other: Collection) -> None:
        """Add the records of another run on images that have no such records here."""
        for key, records in other._records.items():
            earlier = self._records.get(key)
            if earlier is None:
                self._records[key], self._readers[key] = records, other._readers[key]
            elif len(rest := records.join(earlier, on="index", how="anti")):
                self._records[key] = pl.concat([earlier, rest])
                self._readers[key] = [*self._readers[key], *other._readers[key]]

    def certify(self, radii: pl.DataFrame, norm: str, transform: str) -> None:
        """Keep the size up to which no perturbation of an image changes its correct label.

        `radii` has the columns `index` and `radius`, 0 where nothing is proven.
        """
        self._certified[norm, transform] = radii.select(
            "index", "radius", transform=pl.lit(transform), norm=pl.lit(norm)
        )
        if self.parent:
            self.parent.certify(radii, norm, transform)

    @property
    def records(self) -> pl.DataFrame:
        """All records, one row for each image, attack and transform; without the images."""
        if not self._records:
            return pl.DataFrame()
        return pl.concat(self._records.values()).sort("attack", "transform", "index")

    @property
    def passes(self) -> dict[str, int]:
        """Number of forward and backward passes of all records."""
        return {
            kind: sum(int(frame[kind].sum()) for frame in self._records.values())
            for kind in ("forwards", "backwards")
        }

    def ledger(self, indices: np.ndarray) -> Ledger:
        """Return the ledger of these images."""
        return Ledger.of(self._records.values(), self._certified.values()).on(indices)

    def examples(
        self, attacks: Sequence[str], transform: str, indices: Sequence[int]
    ) -> pl.DataFrame:
        """Return `index` and the adversarial image of each pair of an attack and a test image."""
        pairs = pl.DataFrame({"attack": attacks, "index": indices})
        tables = []
        for (attack,), rows in pairs.group_by("attack"):
            missing = rows["index"].unique()
            for read in self._readers[str(attack), transform]:
                table = read(missing.to_list()) if len(missing) else None
                if table is not None and len(table):
                    tables.append(table.with_columns(attack=pl.lit(attack)))
                    missing = missing.filter(~missing.is_in(table["index"].to_list()))
        return pairs.join(
            pl.concat(tables), on=["attack", "index"], how="left", maintain_order="left"
        ).drop("attack")
