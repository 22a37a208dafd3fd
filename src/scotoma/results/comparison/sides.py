"""Which images differ between audits: the outcome of every image, and pictures of some."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import islice

import numpy as np
import polars as pl

from scotoma.data.dataset import Dataset, class_name
from scotoma.execution.records import beyond
from scotoma.results.attack_names import short_name
from scotoma.results.comparison.audits import Audit, Audits
from scotoma.results.comparison.pictures import Album
from scotoma.results.finding import Finding, Gallery, Row
from scotoma.utils.text import counted, norm_name

LISTED = 100
"""Most images in the table of the report; images.csv has all."""
SHOWN, TRIED = 6, 30
"""Images in the gallery, and the most that are tried for it: some are not stored."""
MISSED, FOOLED, KEPT = "misclassified", "fooled", "withstands"
RULE = (
    "differs if the outcome of an image (misclassified, fooled, or withstands all attacks) is not "
    "the same in all audits, else not applicable"
)


def every_image(audits: Audits) -> pl.DataFrame:
    """Return a row for each compared image: index, label, and side and size in each audit."""
    norm = audits.threat.norm
    table = audits.each[0].rows.select("index", "label")
    for audit in audits:
        columns = {
            "side": pl.Series(_sides(audit, audits)),
            norm: audit.rows[norm],
            "prediction": audit.rows["prediction"],
            "attacked prediction": audit.rows[f"{norm}_prediction"],
            "attack": pl.Series(map(_short_name, audit.rows[f"{norm}_attack"]), dtype=pl.String),
        }
        table = table.with_columns(
            column.alias(f"{audit.name} {name}") for name, column in columns.items()
        )
    return table


def describe(audits: Audits, data: Dataset | None) -> Finding:
    """Return the finding on images with different outcomes."""
    sides = np.array([_sides(audit, audits) for audit in audits])
    changed = np.flatnonzero((sides != sides[0]).any(0))
    rows = [_row(audits, sides, int(i)) for i in changed[:LISTED]]
    album, fooled = Album(audits, data), [int(i) for i in changed if FOOLED in sides[:, i]]
    rounds = ((i, album.row(i)) for i in _spread(sides, fooled))
    drawn = list(islice(((i, pictures) for i, pictures in rounds if pictures is not None), SHOWN))
    figures, images = (), {}
    if drawn:
        images = {"changed": np.stack([pictures for _, pictures in drawn])}
        gallery = Gallery(
            "changed",
            "Images with different outcomes: "
            + ("the original, and" if data else "for each audit")
            + " the smallest perturbation found there"
            + (" added to it." if data else ", alone: grey is no change."),
            images="changed",
            columns=[*(["original"] if data else []), *audits.names],
            captions=[_captions(audits, sides, i, data) for i, _ in drawn],
        )
        figures = (gallery,)
    return Finding(
        probe="images",
        question="Which images have different outcomes?",
        verdict="differs" if len(changed) else "not applicable",
        rule=RULE,
        headline=(
            f"{len(changed):,} of {counted(audits.n, 'image')} have different outcomes."
            if len(changed)
            else f"All {counted(audits.n, 'image')} have the same outcome in every audit."
        ),
        numbers={"n": audits.n, "changed": len(changed)},
        tables={"sides": _count_outcomes(audits, sides), "images": rows},
        figures=figures,
        images=images,
        notes=(
            f"An image is misclassified without an attack, fooled within {audits.threat.words}, or "
            "withstands all attacks of that audit. The file images.csv has all compared images, "
            f"the table at most {LISTED}.",
        ),
    )


def _short_name(attack: str | None) -> str | None:
    return None if attack is None else short_name(attack)


def _sides(audit: Audit, audits: Audits) -> np.ndarray:
    withstands = beyond(audit.sizes(audits.threat.norm), audits.threat.eps)
    return np.where(audit.correct(), np.where(withstands, KEPT, FOOLED), MISSED)


def _count_outcomes(audits: Audits, sides: np.ndarray) -> list[Row]:
    """Return how many images are on each combination of sides, the most frequent first."""
    headings = [f"in {name}" for name in audits.names]
    counts = Counter(zip(*sides.tolist(), strict=True))
    ordered = sorted(counts, key=lambda each: (-counts[each], each))
    return [dict(zip(headings, each, strict=True)) | {"images": counts[each]} for each in ordered]


def _row(audits: Audits, sides: np.ndarray, position: int) -> Row:
    norm = audits.threat.norm
    label = audits.each[0].rows["label"][position]
    row: Row = {"image": int(audits.indices[position]), "label": label}
    for audit, side in zip(audits, sides[:, position], strict=True):
        size = audit.sizes(norm)[position]
        has_size = side != MISSED and np.isfinite(size)
        row[f"in {audit.name}"] = f"{side}, {norm_name(norm)} {size:.3f}" if has_size else str(side)
    return row


def _spread(sides: np.ndarray, positions: list[int]) -> list[int]:
    """Return images in rounds over the combinations of outcomes, so that all are shown."""
    counts: Counter[tuple[str, ...]] = Counter()
    rounds = []
    for position in positions:
        outcome = tuple(sides[:, position])
        counts[outcome] += 1
        rounds.append((counts[outcome], position))
    return [position for _, position in sorted(rounds)][:TRIED]


def _captions(audits: Audits, sides: np.ndarray, position: int, data: Dataset | None) -> list[str]:
    norm, captions = audits.threat.norm, []
    class_text = str if data is None else partial(class_name, data.classes)
    for audit, side in zip(audits, sides[:, position], strict=True):
        row = audit.rows.row(position, named=True)
        if side == MISSED:
            captions.append(f"misclassified as {class_text(row['prediction'])}")
        elif np.isfinite(row[norm]):
            size = f"{norm_name(norm)} {row[norm]:.3f}"
            prediction = class_text(row[f"{norm}_prediction"])
            captions.append(f"{side}; classified as {prediction} at {size}")
        else:
            captions.append(f"{side}; no attack succeeded")
    label = audits.each[0].rows["label"][position]
    image = f"image {audits.indices[position]}, label {class_text(label)}"
    if data is not None:
        return [image, *captions]
    return [f"{image}: {captions[0]}", *captions[1:]]
