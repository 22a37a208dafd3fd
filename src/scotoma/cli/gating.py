"""Commands on claims as files: `init` and `gate`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from scotoma.cli.app import app, progress_bars, typed_command
from scotoma.utils.errors import InputError

TEMPLATE = """# A claim of robustness. scotoma audit {name} audits it, scotoma gate {name} decides.

[model]
source = "{model}"           # as for `scotoma audit`; paths are sought beside this file first
{weights}

[data]
source = "{data}"            # digits, mnist, cifar-10, npz:FILE, folder:PATH, ...: docs/data.md

[claim]
threat = "{threat}"
# clean_accuracy = 0.98      # what is claimed, as shares of the test images
# robust_accuracy = 0.90
# margin = 0.02              # how far below a stated number the true one may lie
# source = "where the numbers stand"
# survives = ["scale-shift", "gamma"]   # changes that are said to do no harm
# [claim.also]
# "l2:1.5" = 0.5             # robust accuracy within other threats

[audit]
# probes = ["robustness", "masking"]    # all if left out
limit = 200                  # test images, drawn at random
seed = 0
out = "runs/{stem}"

[gate]
rules = [
    "robustness != broken",
    "masking != broken",
    # "robust_accuracy >= 0.45",
    # "drop_against_baseline <= 0.02",
]
# baseline = "runs/released"
"""


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The claim file to write.")] = Path("claim.toml"),
    model: Annotated[str, typer.Option(help="The model.")] = "model.safetensors",
    weights: Annotated[
        str | None, typer.Option(help="Weights for the model that file.py:function builds.")
    ] = None,
    data: Annotated[str, typer.Option(help="The data set.")] = "digits",
    threat: Annotated[str, typer.Option(help="Norm and size.")] = "linf:0.1",
) -> None:
    """Write a claim file to fill in."""
    from scotoma.threat import Threat

    if path.exists():
        raise InputError(f"{path} exists; nothing was written")
    text = TEMPLATE.format(
        name=path.name,
        stem=path.stem,
        model=model,
        weights=f'weights = "{weights}"' if weights else '# weights = "weights.safetensors"',
        data=data,
        threat=Threat.parse(threat),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {path}; fill it in, then run: scotoma audit {path}")


@app.command(short_help="Apply rules to an audit; the exit code says if it passes.")
def gate(
    what: Annotated[
        Path, typer.Argument(metavar="CLAIM|RUN", help="Claim file, or folder of a finished audit.")
    ],
    rule: Annotated[
        list[str] | None,
        typer.Option(
            help="A rule in place of those of the claim, such as 'robust_accuracy >= 0.45'; may be "
            "given several times."
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="Run folder that drop_against_baseline compares with [default: the claim's]."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder of the claim's audit [default: the claim's].")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="JUnit XML file to write.")] = None,
    summary: Annotated[
        Path | None,
        typer.Option(help="Markdown file to append to [default: $GITHUB_STEP_SUMMARY]."),
    ] = None,
) -> None:
    """Apply rules to an audit: exit code 0 if it passes, 1 if it fails, 3 if undecided.

    The audit of a claim file is run, or continued, first. Rules on numbers test the bounds of their
    95% intervals.
    """
    from dataclasses import replace

    from scotoma.claims.file import read_claim
    from scotoma.claims.gate import EXIT
    from scotoma.claims.gate import gate as apply
    from scotoma.claims.junit import junit as as_junit
    from scotoma.claims.junit import markdown
    from scotoma.claims.rules import DROP, parse
    from scotoma.claims.running import run
    from scotoma.execution.ranks import ranks
    from scotoma.results.report import read_report
    from scotoma.utils.files import write_whole

    rules = tuple(map(parse, rule or ()))
    if what.is_dir():
        if out:
            raise InputError("--out belongs to a claim file; this is a finished audit")
        report = read_report(what)
    else:
        claim = read_claim(what)
        rules, baseline = rules or claim.rules, baseline or claim.baseline
        if any(each.number == DROP for each in rules) and baseline is None:
            raise InputError(f"{what}: drop_against_baseline wants [gate] baseline or --baseline")
        if baseline:
            read_report(baseline)  # before the work begins
        request = replace(claim.request, out=out) if out else claim.request
        report = run(request, progress_bars(), typed_command())
    if not ranks().leads:
        return
    outcome = apply(report, rules, baseline)
    if junit:
        write_whole(junit, as_junit(outcome))
    target = summary or os.environ.get("GITHUB_STEP_SUMMARY")
    if target:
        with Path(target).open("a", encoding="utf-8") as file:
            file.write(markdown(outcome))
    _show(outcome)
    if code := EXIT[outcome.result]:
        raise typer.Exit(code)


def _show(gate: object) -> None:
    from rich.console import Console
    from rich.table import Table

    from scotoma.claims.gate import Gate

    assert isinstance(gate, Gate)
    colours = {"passed": "green", "failed": "red", "undecided": "yellow"}
    table = Table(title=gate.title, title_justify="left", title_style="bold", show_lines=True)
    for heading in ("rule", "result", "why"):
        table.add_column(heading)
    for each in gate.decisions:
        table.add_row(str(each.rule), f"[{colours[each.result]}]{each.result}[/]", each.reason)
    console = Console()
    console.print(table)
    for error in gate.report.errors:
        console.print(f"[bold red]error[/] {error}", soft_wrap=True)
    console.print(f"report: {gate.report.html}", soft_wrap=True)
    console.print(f"[bold {colours[gate.result]}]{gate.result}[/]")
