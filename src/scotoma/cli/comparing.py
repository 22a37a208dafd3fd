"""The command `compare`: finished audits beside each other, image by image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scotoma.cli.app import DataRoot, app, typed_command
from scotoma.cli.groups import Images, grouped


@app.command(short_help="Compare audits of the same data image by image.")
@grouped
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Folders of finished audits.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("runs/compare"),
    data: Annotated[
        str | None,
        typer.Option(help="The audited data, as for `audit`, to show the images themselves."),
    ] = None,
    data_root: DataRoot = None,
    *,
    images: Images,
) -> None:
    """Compare audits of the same data and threat image by image, without their models."""
    from scotoma.report.comparing import compare as run
    from scotoma.results.audited import audited_data

    dataset = audited_data(runs[0], data, data_root, **images) if data else None
    run(*runs, out=out, data=dataset, command=typed_command()).show()
