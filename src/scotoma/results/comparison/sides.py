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
"""Images in the gallery, and how many are looked for at most: some are not stored."""
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
        named = {
            "side": pl.Series(_sides(audit, audits)),
            norm: audit.rows[norm],
            "prediction": audit.rows["prediction"],
            "attacked prediction": audit.rows[f"{norm}_prediction"],
            "attack": pl.Series(map(_named, audit.rows[f"{norm}_attack"]), dtype=pl.String),
        }
        table = table.with_columns(
            column.alias(f"{audit.name} {name}") for name, column in named.items()
        )
    return table


def describe(audits: Audits, data: Dataset | None) -> Finding:
    """Return the finding on images with different outcomes."""
    sides = np.array([_sides(audit, audits) for audit in audits])
    changed = np.flatnonzero((sides != sides[0]).any(0))
    rows = [_row(audits, sides, int(place)) for place in changed[:LISTED]]
    album, fooled = Album(audits, data), [int(i) for i in changed if FOOLED in sides[:, i]]
    rounds = ((place, album.row(place)) for place in _spread(sides, fooled))
    drawn = list(islice(((place, made) for place, made in rounds if made is not None), SHOWN))
    figures, images = (), {}
    if drawn:
        images = {"changed": np.stack([made for _, made in drawn])}
        gallery = Gallery(
            "changed",
            "Images with different outcomes: "
            + ("the original, and" if data else "for each audit")
            + " the smallest perturbation found there"
            + (" added to it." if data else ", alone: grey is no change."),
            images="changed",
            columns=[*(["original"] if data else []), *audits.names],
            captions=[_captions(audits, sides, place, data) for place, _ in drawn],
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
        tables={"sides": _ways(audits, sides), "images": rows},
        figures=figures,
        images=images,
        notes=(
            f"An image is misclassified without an attack, fooled within {audits.threat.words}, or "
            "withstands all attacks of that audit. The file images.csv has all compared images, "
            f"the table at most {LISTED}.",
        ),
    )


def _named(attack: str | None) -> str | None:
    return None if attack is None else short_name(attack)


def _sides(audit: Audit, audits: Audits) -> np.ndarray:
    kept = beyond(audit.sizes(audits.threat.norm), audits.threat.eps)
    return np.where(audit.correct(), np.where(kept, KEPT, FOOLED), MISSED)


def _ways(audits: Audits, sides: np.ndarray) -> list[Row]:
    """Return how many images are on each combination of sides, the most frequent first."""
    headings = [f"in {name}" for name in audits.names]
    counts = Counter(zip(*sides.tolist(), strict=True))
    ways = sorted(counts, key=lambda way: (-counts[way], way))
    return [dict(zip(headings, way, strict=True)) | {"images": counts[way]} for way in ways]


def _row(audits: Audits, sides: np.ndarray, place: int) -> Row:
    norm = audits.threat.norm
    label = audits.each[0].rows["label"][place]
    row: Row = {"image": int(audits.indices[place]), "label": label}
    for audit, side in zip(audits, sides[:, place], strict=True):
        size = audit.sizes(norm)[place]
        found = side != MISSED and np.isfinite(size)
        row[f"in {audit.name}"] = f"{side}, {norm_name(norm)} {size:.3f}" if found else str(side)
    return row


def _spread(sides: np.ndarray, places: list[int]) -> list[int]:
    """Return images in rounds over the ways in which outcomes differ, so that all are shown."""
    seen: Counter[tuple[str, ...]] = Counter()
    rounds = []
    for place in places:
        way = tuple(sides[:, place])
        seen[way] += 1
        rounds.append((seen[way], place))
    return [place for _, place in sorted(rounds)][:TRIED]


def _captions(audits: Audits, sides: np.ndarray, place: int, data: Dataset | None) -> list[str]:
    norm, captions = audits.threat.norm, []
    named = str if data is None else partial(class_name, data.classes)
    for audit, side in zip(audits, sides[:, place], strict=True):
        row = audit.rows.row(place, named=True)
        if side == MISSED:
            captions.append(f"misclassified as {named(row['prediction'])}")
        elif np.isfinite(row[norm]):
            size = f"{norm_name(norm)} {row[norm]:.3f}"
            prediction = named(row[f"{norm}_prediction"])
            captions.append(f"{side}; classified as {prediction} at {size}")
        else:
            captions.append(f"{side}; no attack succeeded")
    label = audits.each[0].rows["label"][place]
    image = f"image {audits.indices[place]}, label {named(label)}"
    if data is not None:
        return [image, *captions]
    return [f"{image}: {captions[0]}", *captions[1:]]
