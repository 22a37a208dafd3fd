"""The command `judge`: people look at the images of an audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scotoma.cli.app import app
from scotoma.utils.errors import InputError


@app.command(short_help="Let people judge generated images of an audit.")
def judge(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished audit.")],
    answers: Annotated[
        list[Path] | None,
        typer.Option(help="CSV that the page has saved; once for each person."),
    ] = None,
) -> None:
    """Write a page on which people judge generated images, or add their answers to the report."""
    from scotoma.report.judging import page
    from scotoma.report.publishing import publish
    from scotoma.results.judging import PROBE, class_names, items, judgement, read_answers, run_key
    from scotoma.results.report import read_report, save_finding
    from scotoma.utils.files import write_whole

    report = read_report(folder)
    images = items(report)
    classes = class_names(report)
    if not answers:
        path = folder / "judge.html"
        title = f"Images of {report.claim['data']}"
        write_whole(path, page(images, run_key(report.findings), classes, title).encode())
        typer.echo(f"open {path} in a browser; it needs no network, and saves the answers as CSV")
        return
    contents = [path.read_bytes() if path.is_file() else path for path in answers]
    if len(set(contents)) < len(contents):
        raise InputError("--answers: two files have the same answers; give each person's once")
    people = [read_answers(path, report, len(classes)) for path in answers]
    finding = judgement(images, people, run_key(report.findings))
    save_finding(folder, finding)
    other_findings = [each for each in report.findings if each.probe != PROBE]
    publish(folder, report.claim, [*other_findings, finding], report.provenance)
    typer.echo(finding.headline)
    typer.echo(f"report: {report.html}")
