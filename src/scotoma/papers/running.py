"""Running items: each writes rows for programs and a report for people into its folder."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

from scotoma.attacks import ATTACKS
from scotoma.execution.ranks import ranks
from scotoma.papers import ITEMS, item_names
from scotoma.papers.item import SUMMARY, Context, Item, Options
from scotoma.report import text
from scotoma.report.html import write_findings
from scotoma.results.finding import Finding, Row
from scotoma.results.provenance import machine
from scotoma.utils.errors import InputError
from scotoma.utils.files import write_json

PIPED = 120
"""Width of the text where there is no terminal."""
WORDS = 30
"""Longest text of a column of words that is kept on one line."""
ALWAYS = ("Measure", "Ours", "n", "Published")
"""Columns that are printed even if all their cells are the same."""
RANGED = {"low": "ours_low", "high": "ours_high"}


@dataclass(frozen=True)
class Reproduction:
    """An item measured again; `folder` has reproduction.json and report.html.

    Args:
        name: "paper/item".
        folder: folder of the item.
        rows: our numbers beside the published ones.
        finding: verdict, tables and figures.
    """

    name: str
    folder: Path
    rows: list[Row]
    finding: Finding

    def show(self) -> None:
        """Print our numbers beside the published ones, or the item's summary if it has one."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        summary, verdict = self.finding.tables.get(SUMMARY), self.finding.verdict
        all_columns = text.columns(without_intervals(summary) if summary else as_table(self.rows))
        columns = [c for c in all_columns if len(set(c.cells)) > 1 or c.heading in ALWAYS]
        console = Console() if sys.stdout.isatty() else Console(width=PIPED)
        console.print(f"[bold]{self.finding.question}[/]", highlight=False)
        for group in side_by_side(columns, console.width):
            table = Table(pad_edge=False, box=SIMPLE_HEAD)
            for c in group:
                side: Any = "right" if c.numeric else "left"
                table.add_column(c.heading, justify=side, no_wrap=c.numeric)
            for cells in zip(*(column.cells for column in group), strict=True):
                table.add_row(*cells)
            console.print(table)
        colours = {"agrees": "green", "undecided": "yellow", "contradicts": "red"}
        outcome = f"[{colours.get(verdict, 'dim')}]{verdict}[/]: {self.finding.headline}"
        console.print(outcome, soft_wrap=True, highlight=False)
        console.print(f"report: {self.folder / 'report.html'}\n", soft_wrap=True)


def reproduce(
    name: str,
    out: Path | None = None,
    *,
    command: str | None = None,
    **options: Unpack[Options],
) -> list[Reproduction]:
    """Measure one or all items of a paper again.

    Args:
        name: "paper/item" or "paper".
        out: folder of the item, or of all items of the paper, with a folder for each and a report
            on all; default runs/PAPER/ITEM or runs/PAPER. The same call resumes one that stopped.
        command: command that repeats it, for the report.
        options: see `Options`.

    Raises:
        InputError: there is no such item, or an argument cannot be used.
    """
    names = item_names(name)
    if (attack := options.get("attack")) is not None:
        ATTACKS[attack]
    if (limit := options.get("limit")) is not None and limit < 1:
        raise InputError(f"limit={limit}: want at least one image")
    paper, _, single = name.partition("/")
    home = Path("runs") / paper
    top = home / single if out is None else Path(out).expanduser()
    work, rows_file = (home if out is None else top) / "runs", top / "reproduction.json"
    if top.exists() and any(top.iterdir()) and not ((top / "runs").is_dir() or rows_file.exists()):
        raise InputError(f"{top}: is not empty and not a reproduction; choose another out=FOLDER")
    elapsed, reproductions = _clock(), []
    with Context(work, **options) as context:
        items: dict[str, Item] = {each: ITEMS[each]() for each in names}
        models = tuple(dict.fromkeys(model for item in items.values() for model in item.models))
        context.prepare(models)
        with context.progress.bar(name, len(items)) as advance:
            for each, item in items.items():
                folder = top if single else top / each.partition("/")[2]
                reproductions.append(_measure(each, item, context, folder, command))
                advance(1)
        if not single and ranks().leads:
            lead = (
                f"{len(items)} items of {paper}, measured again on models that this project "
                "trained. Each has its own folder."
            )
            provenance = _provenance(context, models, command) | elapsed()
            findings = [each.finding for each in reproductions]
            write_findings(top, "reproduction", paper, lead, findings, provenance)
    ranks().leave()
    return reproductions


def _measure(
    name: str, item: Item, context: Context, folder: Path, command: str | None
) -> Reproduction:
    elapsed, (paper, _, item_name) = _clock(), name.partition("/")
    rows, finding = item.measure(context)
    tables = {"ours_beside_the_paper": as_table(rows), **finding.tables}
    finding = replace(finding, probe=item_name, tables=tables)
    if ranks().leads:
        write_json(folder / "reproduction.json", {"paper": paper, "item": item_name, "rows": rows})
        lead = (
            f"{item.source}, measured again on models that this project trained "
            f"(docs/papers/{paper}.md)."
        )
        provenance = _provenance(context, item.models, command) | elapsed()
        write_findings(folder, "reproduction", item.title, lead, [finding], provenance)
    return Reproduction(name, folder, rows, finding)


def _clock() -> Callable[[], Row]:
    """Start a clock; return a function for the start time and the seconds since then."""
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    return lambda: {"started": started, "seconds": round(time.monotonic() - clock, 1)}


def side_by_side(columns: list[text.Column], width: int) -> list[list[text.Column]]:
    """Split columns into tables that fit a width; each begins with the first column."""
    first, *others = columns
    tables = [[first]]
    for column in others:
        full = sum(map(_width, [*tables[-1], column])) > width
        if full and len(tables[-1]) > 1 and column.numeric:
            tables.append([first])
        tables[-1].append(column)
    return tables


def _width(column: text.Column) -> int:
    """Return the width of a column in characters, with the space beside it; words can wrap."""
    widest = max(map(len, column.cells))
    return 2 + (max(widest, len(column.heading)) if column.numeric else min(widest, WORDS))


def as_table(rows: list[Row]) -> list[Row]:
    """Return rows with our interval under the names that tables expect."""
    return [{RANGED.get(key, key): value for key, value in row.items()} for row in rows]


def without_intervals(rows: list[Row]) -> list[Row]:
    """Return rows without intervals, so that a wide table fits a terminal."""
    ends = ("_low", "_high")
    return [{key: value for key, value in row.items() if not key.endswith(ends)} for row in rows]


def _provenance(context: Context, models: tuple[str, ...], command: str | None) -> Row:
    classifiers = [context.models[name] for name in models]
    return {
        "command": command,
        "notes": [f"{model.name}: {note}" for model in classifiers for note in model.notes],
        "seed": context.seed,
        "attack": context.attack or "the paper's",
        "limit": context.limit or "the paper's",
        "models": {model.name: {"sha256": model.sha256, **model.card} for model in classifiers},
        **machine(next(iter(context.runs.values())).device if context.runs else "none"),
    }
