"""The ledger: all records of a run joined by image, so that every finding reads the same evidence.

Attacks are compared image by image: what counts is the smallest verified perturbation that any of
them gave, whichever probe asked for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from scotoma.threat import TOLERANCE
from scotoma.utils.errors import InputError
from scotoma.utils.text import norm_name

NORMS = ("l0", "l1", "l2", "linf")
UNCHANGED = "none"
"""Name of the transform of the test set itself."""
IMAGE = ("transform", "index")
CLEAN = {"label": pl.Int64, "prediction": pl.Int64, "margin": pl.Float32}
SMALLEST = {"": pl.Float32, "_attack": pl.String, "_prediction": pl.Int64, "_certified": pl.Float32}
"""Columns of each norm, by what follows its name."""
SCHEMA = pl.Schema(
    {"transform": pl.String, "index": pl.Int64, **CLEAN, "success": pl.Boolean}
    | {f"{norm}{end}": kind for norm in NORMS for end, kind in SMALLEST.items()}
)


@dataclass(frozen=True)
class Ledger:
    """What the attacks of a run found on each image.

    Columns of `table`, one row an image and transform:

    - `transform` ("none" for the audited images themselves), `index`, `label`;
    - `prediction` and `margin` before the attack, from the attack whose name sorts first (they may
      differ between attacks if the model is randomised);
    - `success`: whether the prediction is correct and some attack succeeded;
    - for each norm of `NORMS` the smallest perturbation (`linf`: 0 if the prediction is wrong,
      infinite if no attack succeeded), the attack that gave it (`linf_attack`), the prediction on
      it (`linf_prediction`), and the radius that is certified (`linf_certified`; null if unknown).

    >>> row = {"index": 3, "label": 1, "prediction": 1, "margin": 0.5, "success": True}
    >>> near = row | {"linf": 0.1, "l0": 9.0, "l1": 0.5, "l2": 0.3, "adversarial_prediction": 7}
    >>> frames = [pl.DataFrame([near]), pl.DataFrame([near | {"linf": 0.2, "l0": 2.0}])]
    >>> named = [frame.with_columns(attack=pl.lit(name)) for name, frame in zip("ab", frames)]
    >>> ledger = Ledger.of(frame.with_columns(transform=pl.lit("none")) for frame in named)
    >>> ledger.rows().select("index", "linf", "linf_attack", "l0", "l0_attack").row(0)
    (3, 0.10000000149011612, 'a', 2.0, 'b')
    """

    table: pl.DataFrame

    @classmethod
    def of(cls, records: Iterable[pl.DataFrame], certified: Iterable[pl.DataFrame] = ()) -> Ledger:
        """Join records.

        Args:
            records: tables of `execution.records.measure` with `attack` and `transform`; images and
                the order of tables may differ.
            certified: tables with `transform`, `index`, `norm` and `radius`, the size up to which
                no perturbation changes the correct label.
        """
        records = list(records)
        if not records:
            return cls(SCHEMA.to_frame(eager=True))
        every = pl.concat(records).sort("transform", "index", "attack")
        joined = every.group_by(IMAGE, maintain_order=True).first().select(*IMAGE, *CLEAN)
        fooled = every.filter("success")
        correct = pl.col("prediction") == pl.col("label")
        radii = pl.concat(certified) if (certified := list(certified)) else None
        for norm in NORMS:
            smallest = fooled.sort(norm, "attack").group_by(IMAGE).first()
            columns = smallest.select(
                *IMAGE,
                norm,
                pl.col("attack").alias(f"{norm}_attack"),
                pl.col("adversarial_prediction").alias(f"{norm}_prediction"),
            )
            joined = joined.join(columns, on=IMAGE, how="left", maintain_order="left").with_columns(
                pl.when(correct).then(pl.col(norm).fill_null(np.inf)).otherwise(0.0).alias(norm),
                *(
                    pl.when(correct).then(f"{norm}{end}").alias(f"{norm}{end}")
                    for end in ("_attack", "_prediction")
                ),
            )
            name = f"{norm}_certified"
            if radii is None:
                joined = joined.with_columns(pl.lit(None, pl.Float32).alias(name))
            else:
                largest = radii.filter(norm=norm).group_by(IMAGE).agg(pl.max("radius").alias(name))
                joined = joined.join(largest, on=IMAGE, how="left", maintain_order="left")
        success = correct & pl.col("linf").is_finite()
        return cls(joined.with_columns(success=success).select(SCHEMA.names()).cast(SCHEMA))

    def on(self, indices: Sequence[int] | np.ndarray) -> Ledger:
        """Return the ledger of these images, in this order under each transform."""
        order = pl.DataFrame({"index": np.asarray(indices)}).with_row_index("place")
        joined = self.table.join(order, on="index").sort("transform", "place")
        return Ledger(joined.select(SCHEMA.names()))

    def rows(self, transform: str = UNCHANGED) -> pl.DataFrame:
        """Return the rows of one transform; they can be read as records can (`records.fallen`)."""
        return self.table.filter(pl.col("transform") == transform)

    def contradictions(self) -> pl.DataFrame:
        """Return the successes inside a certified ball, one row an image, transform and norm.

        Both the attack and the certificate are verified, so one of them has a fault. A ball is
        closed and has the slack of all comparisons with a size (`threat.TOLERANCE`).

        Columns: transform, index, norm, attack, size, certified.
        """
        inside = []
        for norm in NORMS:
            size, radius = pl.col(norm), pl.col(f"{norm}_certified")
            slack = TOLERANCE * pl.max_horizontal(radius, 1.0)
            inside.append(
                self.table.filter(pl.col("success") & (size <= radius + slack)).select(
                    *IMAGE,
                    pl.lit(norm).alias("norm"),
                    pl.col(f"{norm}_attack").alias("attack"),
                    size.alias("size"),
                    radius.alias("certified"),
                )
            )
        return pl.concat(inside)

    def errors(self) -> list[str]:
        """Return the errors that open a report: at most one sentence.

        >>> Ledger.of([]).errors()
        []
        """
        rows = self.contradictions()
        if not len(rows):
            return []
        row = rows.row(0, named=True)
        transform = row["transform"]
        after = "" if transform == UNCHANGED else f" after {transform}"
        images = rows.select(IMAGE).n_unique()
        more = f", and on {images - 1:,} more images" if images > 1 else ""
        return [
            f"CERTIFICATE AND ATTACK CONTRADICT EACH OTHER: test image {row['index']}{after} is "
            f"certified up to {norm_name(row['norm'])} {row['certified']:.6g}, but {row['attack']} "
            f"fools the model at {row['size']:.6g}{more}. Either the bound or the measurement has "
            "a fault; trust neither, and report it."
        ]


def read_table(path: Path) -> pl.DataFrame:
    """Read the records or the ledger of a finished run. Raises `InputError` if it cannot."""
    try:
        return pl.read_parquet(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run the audit again") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
