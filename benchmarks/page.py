"""The page of figures, `docs/benchmarks.md`: sections that are measured one by one, each replacing what it said before."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from peers import Result
from scotoma.utils import stats

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `make bench`. Every library works on the same model, images and labels in one process. No attack is believed: an image
counts as fooled when a plain float32 forward pass gives the image returned, inside [0, 1] and within the size allowed, another
label. Distances are medians over all images, infinite ("none") where more than half are not fooled. Rates have 95% Wilson
intervals. Ratios are ours by theirs: below 1 ours takes less time, or goes less far. "In passes" is the share of the time
inside the model's forward and backward passes. Memory is the most that the process held beyond what it held before, so that
small figures say little. On one thread, time is the processor's. Our attacks let an image go once it is fooled, and search in
bf16 where that pays, as in an audit. Where a peer wins, the section says so.
"""
SLIGHT = 0.01
"""Share by which times and distances must differ to count as a win."""


@dataclass(frozen=True)
class Row:
    """What one library did in a contest."""

    library: str
    images: int
    result: Result | None
    failure: str = ""

    @property
    def hits(self) -> int:
        return round(self.result.fooled * self.images) if self.result else 0


@dataclass(frozen=True)
class Standing:
    """A contest with its rows, ours first."""

    title: str
    minimal: bool
    """looks for the smallest perturbation, so that distances say who is better"""
    rows: list[Row]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first two flush right."""
    rule = ["---" if column < 2 else "---:" for column in range(len(heads))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rule, *rows))


def contest_table(standings: Sequence[Standing]) -> str:
    """All rows of all contests."""
    heads = [
        "attack",
        "library",
        "fooled",
        "median distance",
        "forwards",
        "backwards",
        "ms an image",
        "MiB an image",
    ]
    heads += ["in passes", "time, ratio", "distance, ratio"]
    rows = []
    for standing in standings:
        mine = standing.rows[0].result
        for number, row in enumerate(standing.rows):
            ratios = ["", ""]
            if number and mine and row.result:
                nearer = ratio(mine.median, row.result.median) if standing.minimal else ""
                ratios = [ratio(mine.seconds, row.result.seconds), nearer]
            rows.append(
                [
                    "" if number else standing.title,
                    row.library,
                    *cells(row, standing.minimal),
                    *ratios,
                ]
            )
    return table(heads, rows)


def cells(row: Row, minimal: bool) -> list[str]:
    if row.result is None:
        return [row.failure, *[""] * 6]
    result, n = row.result, row.images
    return [
        rate(row.hits, n),
        (f"{result.median:.4g}" if math.isfinite(result.median) else "none") if minimal else "",
        f"{result.forwards:,.0f}",
        f"{result.backwards:,.0f}",
        f"{1000 * result.seconds / n:,.3g}"
        if result.seconds / n < 1
        else f"{1000 * result.seconds / n:,.0f}",
        f"{result.memory / n:.2f}",
        f"{result.passes / result.seconds:.0%}",
    ]


def rate(hits: int, n: int) -> str:
    """With its interval."""
    found = stats.rate(np.arange(n) < hits)
    return f"{hits} of {n} ({found.low:.0%}-{found.high:.0%})"


def ratio(mine: float, theirs: float) -> str:
    """Of values that are infinite where nothing was found; "none" where theirs is, or 0."""
    if math.isinf(theirs) or theirs == 0:
        return "none"
    return "infinite" if math.isinf(mine) else f"{mine / theirs:.2f}"


def lost(standings: Sequence[Standing]) -> str:
    """A list of what peers are better at, and of what each costs ours in it; or that there is nothing."""
    lines = [
        line for standing in standings for row in standing.rows[1:] for line in _lost(standing, row)
    ]
    return (
        "**Where a peer wins:**\n\n" + "\n".join(lines)
        if lines
        else "No peer is better at any of these."
    )


def _lost(standing: Standing, row: Row) -> Iterator[str]:
    first = standing.rows[0]
    mine, peer = first.result, row.result
    if mine is None or peer is None:
        return
    wins, but = [], []
    if row.hits != first.hits:
        (wins if row.hits > first.hits else but).append(
            f"fools {row.hits} of {row.images}, ours {first.hits}"
        )
    if standing.minimal and abs(peer.median - mine.median) > SLIGHT * mine.median:
        (wins if peer.median < mine.median else but).append(
            f"median distance {peer.median:.4g}, ours {mine.median:.4g}"
        )
    if peer.seconds < (1 - SLIGHT) * mine.seconds:
        wins.append(f"takes x{peer.seconds / mine.seconds:.2f} of our time")
    if wins:
        yield f"* {standing.title}: {row.library} {'; '.join(wins)}" + (
            f" (but {'; '.join(but)})" if but else ""
        )


def write(title: str, text: str, order: Sequence[str], page: Path = PAGE) -> None:
    """Put a section into the page, in place of the one of that title, all in this order; others than these are dropped."""
    sections = dict(read(page)) | {title: text.strip()}
    kept = [f"## {each}\n\n{sections[each]}\n" for each in order if each in sections]
    page.write_text("\n".join([HEAD, *kept]))


def read(page: Path) -> list[tuple[str, str]]:
    """Titles and texts of the sections that there are."""
    if not page.exists():
        return []
    parts = re.split(r"^## (.+)$", page.read_text(), flags=re.MULTILINE)[1:]
    return [(title, text.strip()) for title, text in zip(parts[::2], parts[1::2], strict=True)]
