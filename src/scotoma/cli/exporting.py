"""The command `export`: a finished audit in the formats of others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scotoma.cli.app import DataRoot, app
from scotoma.cli.groups import Images, grouped
from scotoma.utils.errors import InputError
from scotoma.utils.registry import nearest

FORMATS = {
    "model-index": "scotoma.results.exports.model_index",
    "robustbench": "scotoma.results.exports.robustbench",
    "csv": "scotoma.results.exports.table",
    "summary": "scotoma.report.one_page",
}
"""Format to the module whose `render` returns its text."""


@app.command(short_help="Write an audit as metadata, a table or a page to print.")
@grouped
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished audit.")],
    format: Annotated[
        str,
        typer.Option(
            "--as",
            help="model-index (YAML for a model card), robustbench (JSON), csv (a row an image) or "
            "summary (one page to print).",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="File to write [default: print; summary.html in RUN].")
    ] = None,
    laboratory: Annotated[
        str | None, typer.Option(help="Name of the laboratory for the summary [default: blank].")
    ] = None,
    tensor: Annotated[
        Path | None,
        typer.Option(help="For robustbench: file.pt for the adversarial images; needs --data."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="The audited data, as for `audit`.")] = None,
    data_root: DataRoot = None,
    *,
    images: Images,
) -> None:
    """Write a finished audit as metadata, a leaderboard entry, a table or a page to print."""
    import importlib

    from scotoma.probes import PROBES
    from scotoma.results.comparison.audits import read_audit
    from scotoma.utils.files import write_whole

    if format not in FORMATS:
        raise InputError(f"unknown format {format!r} of --as; {nearest(format, list(FORMATS))}")
    if laboratory is not None and format != "summary":
        raise InputError(f"--laboratory is for --as summary, not {format}")
    if (tensor is not None or data is not None) and format != "robustbench":
        raise InputError(f"--tensor and --data are for --as robustbench, not {format}")
    if (tensor is None) != (data is None):
        raise InputError("give both --tensor FILE.pt and --data, or neither")
    audit = read_audit(run)
    module = importlib.import_module(FORMATS[format])
    options = {"laboratory": laboratory, "probes": (*PROBES,)} if format == "summary" else {}
    text = module.render(audit, **options)
    if tensor is not None and data is not None:
        import torch

        from scotoma.results.audited import audited_data

        dataset = audited_data(run, data, data_root, **images)
        tensor.parent.mkdir(parents=True, exist_ok=True)
        torch.save(module.adversarial_images(audit, dataset), tensor)
        typer.echo(f"adversarial images: {tensor}", err=True)
    path = out or (run / "summary.html" if format == "summary" else None)
    if path is None:
        typer.echo(text, nl=False)
        return
    write_whole(path, text.encode())
    typer.echo(f"{format}: {path}")
