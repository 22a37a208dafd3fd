"""The page of figures, `docs/benchmarks.md`: a section that is measured again replaces the old."""

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness import HERE, Claim, Result
from scotoma.utils import stats

PAGE = HERE.parent / "docs" / "benchmarks.md"
SLIGHT = 0.01
"""Share by which times and distances must differ to count as a win."""
HEADS = ["attack", "library", "fooled", "median distance", "forwards", "backwards", "ms an image"]
HEADS += ["MiB an image", "in passes", "time, ratio", "distance, ratio"]


@dataclass(frozen=True)
class Standing:
    """A contest and what each library did, ours first; text where it failed.

    `minimal`: distances decide who is better.
    """

    title: str
    minimal: bool
    results: dict[str, Result | str]

    @property
    def ours(self) -> Result:
        mine = next(iter(self.results.values()))
        assert isinstance(mine, Result)  # where ours fails, the benchmark stops
        return mine


@dataclass(frozen=True)
class Section:
    """A section of the page: an introduction, a table, and the claims that its values make."""

    intro: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    claims: Sequence[Claim] = ()

    def __str__(self) -> str:
        return f"{self.intro}\n\n{table(self.heads, self.rows)}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first two flush right."""
    rule = ["---" if column < 2 else "---:" for column in range(len(heads))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rule, *rows))


def contest_table(standings: Sequence[Standing]) -> str:
    """Return the table of all results of all contests."""
    rows = []
    for standing in standings:
        mine = standing.ours
        for name, result in standing.results.items():
            title, ratios = standing.title if result is mine else "", ["", ""]
            if isinstance(result, Result) and result is not mine:
                nearer = ratio(mine.median, result.median) if standing.minimal else ""
                ratios = [ratio(mine.seconds, result.seconds), nearer]
            rows.append([title, name, *cells(result, standing.minimal), *ratios])
    return table(HEADS, rows)


def cells(result: Result | str, minimal: bool) -> list[str]:
    if isinstance(result, str):
        return [result, *[""] * 6]
    distance = f"{result.median:.4g}" if math.isfinite(result.median) else "none"
    each = 1000 * result.seconds / result.n
    return [
        rate(result.hits, result.n),
        distance if minimal else "",
        f"{result.forwards:,.0f}",
        f"{result.backwards:,.0f}",
        f"{each:,.3g}" if each < 1000 else f"{each:,.0f}",
        f"{result.memory / result.n:.2f}",
        f"{result.passes / result.seconds:.0%}",
    ]


def rate(hits: int, n: int) -> str:
    """Return a count with the 95% interval of its rate."""
    share = stats.rate(np.arange(n) < hits)
    return f"{hits} of {n} ({share.low:.0%}-{share.high:.0%})"


def ratio(mine: float, theirs: float) -> str:
    """Return a ratio of distances or times, infinite where an attack failed."""
    if math.isinf(theirs) or theirs == 0:
        return "none"
    return "infinite" if math.isinf(mine) else f"{mine / theirs:.2f}"


def lost(standings: Sequence[Standing]) -> str:
    """List what peers do better, and what they do worse in that contest."""
    lines = [line for each in standings for line in _lost(each)]
    if not lines:
        return "No peer is better at any of these."
    return "**Where a peer wins:**\n\n" + "\n".join(lines)


def _lost(standing: Standing) -> Iterator[str]:
    mine = standing.ours
    for name, peer in standing.results.items():
        if isinstance(peer, str):
            continue
        wins: list[str] = []
        but: list[str] = []
        if peer.hits != mine.hits:
            better = wins if peer.hits > mine.hits else but
            better.append(f"fools {peer.hits} of {peer.n}, ours {mine.hits}")
        if standing.minimal and abs(peer.median - mine.median) > SLIGHT * mine.median:
            better = wins if peer.median < mine.median else but
            better.append(f"median distance {peer.median:.4g}, ours {mine.median:.4g}")
        if peer.seconds < (1 - SLIGHT) * mine.seconds:
            wins.append(f"takes x{peer.seconds / mine.seconds:.2f} of our time")
        if wins:
            less = f" (but {'; '.join(but)})" if but else ""
            yield f"* {standing.title}: {name} {'; '.join(wins)}{less}"


def write(title: str, text: str, order: Sequence[str], page: Path = PAGE) -> None:
    """Replace the section of a title, or add it where `order` has it; other sections stay."""
    head, sections = read(page if page.exists() else PAGE)
    sections = sections if page.exists() else {}
    titles = list(sections)
    if title not in sections:
        before = [titles.index(each) for each in order[: order.index(title)] if each in titles]
        titles.insert(max(before, default=-1) + 1, title)
    sections[title] = "\n".join(map(wrapped, text.strip().splitlines()))
    page.write_text("\n".join([head, *(f"## {each}\n\n{sections[each]}\n" for each in titles)]))


def wrapped(line: str) -> str:
    """Return a line of prose or of a list at 100 columns; rows of tables stay."""
    hang = "  " if line.startswith("* ") else ""
    plain = textwrap.TextWrapper(100, subsequent_indent=hang, break_on_hyphens=False)
    return line if line.startswith("|") else plain.fill(line)


def read(page: Path) -> tuple[str, dict[str, str]]:
    """Return what stands before the sections of a page, and their texts by title."""
    head, *parts = re.split(r"^## (.+)$", page.read_text(), flags=re.MULTILINE)
    texts = (text.strip() for text in parts[1::2])
    return head.strip() + "\n", dict(zip(parts[::2], texts, strict=True))
