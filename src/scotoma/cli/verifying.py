"""The command `verify`: a finished audit checked again, without any attack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scotoma.cli.app import DataRoot, app
from scotoma.cli.groups import Access, Images, grouped
from scotoma.utils.errors import InputError


@app.command(short_help="Check a finished audit without attacking again.")
@grouped
def verify(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished audit.")],
    model: Annotated[
        str | None, typer.Argument(help="The audited model; without it only the files are checked.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="The audited data, as for `audit`.")] = None,
    data_root: DataRoot = None,
    *,
    access: Access,
    images: Images,
) -> None:
    """Check a finished audit again: evaluate every success, and recompute all tables and rates."""
    from rich.console import Console
    from rich.table import Table

    from scotoma.models.loading import load_pair
    from scotoma.results.verify import verify as check

    if (model is None) != (data is None):
        raise InputError("give both the model and --data, or neither")
    classifier = dataset = None
    if model and data:
        classifier, dataset = load_pair(model, data, data_root, **access, **images)
    checks = check(folder, classifier, dataset)
    words = {True: "[green]agrees[/]", False: "[red]differs[/]", None: "[yellow]not decided[/]"}
    table = Table(title=f"{folder}", title_justify="left", title_style="bold")
    for heading in ("check", "result", "details"):
        table.add_column(heading)
    for each in checks:
        table.add_row(each.name, words[each.agrees], each.detail)
    Console().print(table)
    failures = [each.name for each in checks if each.agrees is False]
    if failures:
        typer.echo(f"this audit does not verify: {', '.join(failures)}")
        raise typer.Exit(1)
    typer.echo("all that was checked agrees")
