"""Running items: each into its folder, with the rows for programs and the report for people."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from scotoma._version import __version__
from scotoma.attacks import ATTACKS
from scotoma.execution.ranks import ranks
from scotoma.execution.store import write_json
from scotoma.papers import ITEMS, chosen
from scotoma.papers.item import SUMMARY, Context, Item
from scotoma.report import text
from scotoma.report.html import write_reproduction
from scotoma.results.finding import Finding, Row
from scotoma.utils.errors import InputError
from scotoma.utils.progress import Progress, Silent


@dataclass(frozen=True)
class Reproduction:
    """An item measured again. The folder holds reproduction.json and report.html."""

    name: str
    """"paper/item" """
    folder: Path
    rows: list[Row]
    finding: Finding

    def show(self) -> None:
        """Print ours beside the published figures, or where the item has a summary, that."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        summary = self.finding.tables.get(SUMMARY)
        rows = without_intervals(summary) if summary else shown(self.rows)
        columns = [
            column
            for column in text.columns(rows)
            if len(set(column.cells)) > 1 or column.heading in ALWAYS
        ]
        console = Console() if sys.stdout.isatty() else Console(width=PIPED)
        for title, part in zip_longest(
            [self.finding.question], side_by_side(columns, console.width)
        ):
            table = Table(
                title=title,
                title_justify="left",
                title_style="bold",
                box=SIMPLE_HEAD,
                pad_edge=False,
            )
            for column in part:
                table.add_column(
                    column.heading,
                    justify="right" if column.numeric else "left",
                    no_wrap=column.numeric,
                )
            for cells in zip(*(column.cells for column in part), strict=True):
                table.add_row(*cells)
            console.print(table)
        colour = {"reproduced": "green", "differs": "yellow"}.get(self.finding.verdict, "dim")
        console.print(
            f"[{colour}]{self.finding.verdict}[/]: {self.finding.headline}",
            soft_wrap=True,
            highlight=False,
        )
        console.print(f"report: {self.folder / 'report.html'}\n", soft_wrap=True)


def reproduce(
    name: str,
    out: Path | None = None,
    *,
    attack: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    models: Path | None = None,
    data_root: Path | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
    command: str | None = None,
) -> list[Reproduction]:
    """Measure a paper's table or figure again, or all of the paper's.

    Args:
        name: "paper/item" or "paper".
        out: the folder; the same call continues one that was stopped. One item is written there, the items of a paper into
            one folder each, with a report of all of them above. None is runs/PAPER and runs/PAPER/ITEM.
        attack: a name of `ATTACKS`; None is the paper's.
        limit: how many images an item attacks; None is as many as the paper did.
        seed: of the draw of images and of every attack.
        models: where reference models are looked for first and written; see `reference.reference`.
        data_root: where data sets lie.
        progress: where to show how far it is.
        say: is told what takes long before it begins.
        command: what to print as the command that repeats it.

    Raises:
        InputError: there is no such item, or something else that was given cannot be used.
    """
    names = chosen(name)
    if attack is not None:
        ATTACKS[attack]
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit}: want at least one image")
    paper, _, single = name.partition("/")
    home = Path("runs") / paper
    top = (home / single if single else home) if out is None else Path(out).expanduser()
    work = (home if out is None else top) / "runs"
    if (
        top.exists()
        and any(top.iterdir())
        and not ((top / "runs").is_dir() or (top / "reproduction.json").exists())
    ):
        raise InputError(f"{top}: is not empty and not a reproduction; choose another out=FOLDER")
    started, clock = datetime.now(UTC), time.monotonic()
    progress = progress or Silent()
    with Context(
        work,
        attack=attack,
        limit=limit,
        seed=seed,
        models=models,
        data_root=data_root,
        progress=progress,
        say=say,
    ) as context:
        items: dict[str, Item] = {each: ITEMS[each]() for each in names}
        needed = dict.fromkeys(model for item in items.values() for model in item.models)
        context.prepare(needed)  # what has to be trained is told and done first
        for model in needed:
            context.model(model)
        finished = []
        with progress.bar(name, len(items)) as advance:
            for each, item in items.items():
                folder = top if single else top / each.partition("/")[2]
                finished.append(_measure(each, item, context, folder, command))
                advance(1)
        if not single and ranks().leads:
            lead = f"{len(items)} items of {paper}, measured again on models that this project trained. Each has a folder of its own."
            when = {
                "started": started.isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - clock, 1),
            }
            provenance = _provenance(context, tuple(needed), command) | when
            write_reproduction(top, paper, lead, [each.finding for each in finished], provenance)
    ranks().leave()
    return finished


def _measure(
    name: str, item: Item, context: Context, folder: Path, command: str | None
) -> Reproduction:
    started, clock = datetime.now(UTC), time.monotonic()
    paper, _, short = name.partition("/")
    rows, finding = item.measure(context, short)
    finding = replace(finding, tables={"ours_beside_the_paper": shown(rows), **finding.tables})
    if not ranks().leads:
        return Reproduction(name, folder, rows, finding)
    write_json(folder / "reproduction.json", {"paper": paper, "item": short, "rows": rows})
    when = {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - clock, 1),
    }
    provenance = _provenance(context, item.models, command) | when
    write_reproduction(
        folder,
        item.title,
        f"{item.source}, measured again on models that this project trained.",
        [finding],
        provenance,
    )
    return Reproduction(name, folder, rows, finding)


def side_by_side(columns: list[text.Column], width: int) -> list[list[text.Column]]:
    """The columns of one table or, where numbers would not fit beside each other, of several that all begin with the first one."""
    first, *others = columns
    parts = [[first]]
    for column in others:
        if sum(map(_width, [*parts[-1], column])) > width and len(parts[-1]) > 1 and column.numeric:
            parts.append([first])
        parts[-1].append(column)
    return parts


def _width(column: text.Column) -> int:
    """In letters, with the space beside it; words can be wrapped."""
    widest = max(map(len, column.cells))
    return 2 + (max(widest, len(column.heading)) if column.numeric else min(widest, WORDS))


def shown(rows: list[Row]) -> list[Row]:
    """Rows as tables write them: the interval of ours beside it."""
    return [{RANGED.get(key, key): value for key, value in row.items()} for row in rows]


def without_intervals(rows: list[Row]) -> list[Row]:
    """A wide table that fits a terminal; the intervals stand in the report."""
    return [
        {key: value for key, value in row.items() if not key.endswith(("_low", "_high"))}
        for row in rows
    ]


PIPED = 120
"""Columns of text where there is no terminal to ask."""

WORDS = 30
"""Letters of a column of words that are kept in one line."""

ALWAYS = ("Measure", "Ours", "n", "Published")
"""Columns that are printed even if all their cells are the same."""

RANGED = {"low": "ours_low", "high": "ours_high"}


def _provenance(context: Context, models: tuple[str, ...], command: str | None) -> dict[str, Any]:
    used = [context.models[name] for name in models]
    return {
        "command": command,
        "notes": [f"{model.name}: {note}" for model in used for note in model.notes],
        "seed": context.seed,
        "attack": context.attack or "the paper's",
        "limit": context.limit or "the paper's",
        "models": {model.name: {"sha256": model.sha256, **model.card} for model in used},
        "device": str(next(iter(context.runs.values())).device) if context.runs else "none",
        "threads": torch.get_num_threads(),
        "versions": {
            "scotoma": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "scipy", "polars", "faiss-cpu")},
        },
    }
