"""Which adversarial images stay on disk once a report is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from scotoma.execution.store import CONFIG, Unit, write_unit
from scotoma.results.examples import EXAMPLE, ROUNDING
from scotoma.results.finding import Finding, Gallery
from scotoma.utils.errors import InputError

KEPT = ("examples", "shown", "none")
"""All of them; those that the report shows; none."""
KINDS = ("attack", "attack-aside", "crafted")
"""Kinds of the work units that have images."""
DROPPED = "none"
"""Name of the code of images that are not stored, in the configuration of a work unit."""


def check_kept(keep: str) -> str:
    """Return `keep`. Raises `InputError` if it is none of `KEPT`."""
    if keep not in KEPT:
        raise InputError(f"keep={keep}: want one of {', '.join(KEPT)}")
    return keep


def without_images(table: pl.DataFrame) -> pl.DataFrame:
    """Return the table of a work unit without its adversarial images."""
    nothing = [pl.lit(None, pl.Binary).alias(EXAMPLE), pl.lit(None, pl.Int32).alias(ROUNDING)]
    return table.with_columns(nothing)


def drop_images(units: Path) -> int:
    """Drop the adversarial images of a folder of work units, and return the bytes that are freed.

    Their records stay, as those of a run that keeps no images: such a run continues from them.
    """
    freed = 0
    for path in sorted(units.glob("*.parquet")):
        config = json.loads(pl.read_parquet_metadata(path).get(CONFIG, "{}"))
        if config.get("kind") not in KINDS or config.get("images") == DROPPED:
            continue
        before, table = path.stat().st_size, without_images(pl.read_parquet(path))
        new_path = write_unit(units, Unit({**config, "images": DROPPED}, pl.DataFrame), table)
        path.unlink()
        freed += before - new_path.stat().st_size
    return freed


def without_pictures(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings without pictures of adversarial images."""
    results = []
    for finding in findings:
        gone = [each for each in finding.figures if isinstance(each, Gallery) and each.adversarial]
        names = {each.images for each in gone}
        images = {name: array for name, array in finding.images.items() if name not in names}
        figures = tuple(figure for figure in finding.figures if figure not in gone)
        results.append(replace(finding, figures=figures, images=images))
    return results


def note(keep: str) -> str:
    """Return what a report says of images that are not kept."""
    text = "are not stored" if keep == "none" else "are stored only in the pictures of this report"
    continuation = "" if keep == "none" else "; a continued audit attacks again"
    subject = "successes" if keep == "none" else "other successes"
    return (
        f"Adversarial images {text} (--keep {keep}): `scotoma verify` cannot evaluate the "
        f"{subject} again, and comparisons show no perturbations{continuation}."
    )
