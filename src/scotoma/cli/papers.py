"""Commands on papers and names: `reproduce`, `list`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scotoma.cli.app import (
    DataRoot,
    Seed,
    app,
    progress_bars,
    typed_command,
)
from scotoma.utils.errors import InputError


@app.command(short_help="Measure a table or figure of a paper again.")
def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            help="PAPER/ITEM or PAPER, for example zhang2019/table2; see `scotoma list papers`."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder; the same command continues it [default: runs/PAPER[/ITEM]]."
        ),
    ] = None,
    attack: Annotated[
        str | None,
        typer.Option(help="Attack; see `scotoma list attacks` [default: that of the paper]."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Number of images to attack [default: that of the paper].")
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(
            help="Folder of reference models, also for newly trained ones [default: a cache]."
        ),
    ] = None,
    seed: Seed = 0,
    data_root: DataRoot = None,
) -> None:
    """Measure a table or figure of a paper again and print our numbers beside its."""
    from scotoma.execution.ranks import ranks
    from scotoma.papers.running import reproduce as run

    reproductions = run(
        name,
        out,
        attack=attack,
        limit=limit,
        seed=seed,
        models=models,
        data_root=data_root,
        progress=progress_bars(),
        say=lambda line: typer.echo(line, err=True) if ranks().leads else None,
        command=typed_command(),
    )
    for reproduction in reproductions if ranks().leads else ():
        reproduction.show()


@app.command(name="list", short_help="List attacks, models, data sets, probes and other names.")
def list_names(
    what: Annotated[
        str | None,
        typer.Argument(
            help="attacks, attributions, models, sources, defences, data, recipes, augmentations, "
            "transforms, probes or papers [default: all]."
        ),
    ] = None,
) -> None:
    """List names of attacks, models, data sets, recipes, transforms, probes, papers and more."""
    from scotoma.attacks import ATTACKS
    from scotoma.attribution import ATTRIBUTIONS
    from scotoma.data import DATA
    from scotoma.models import ARCHITECTURES
    from scotoma.models.defences import DEFENCES
    from scotoma.models.sources import SOURCES
    from scotoma.papers import ITEMS
    from scotoma.probes import PROBES
    from scotoma.training import AUGMENTATIONS, RECIPES
    from scotoma.transforms import TRANSFORMS
    from scotoma.utils.registry import nearest

    tables = {
        "attacks": ATTACKS,
        "attributions": ATTRIBUTIONS,
        "models": ARCHITECTURES,
        "sources": SOURCES,
        "defences": DEFENCES,
        "data": DATA,
        "recipes": RECIPES,
        "augmentations": AUGMENTATIONS,
        "transforms": TRANSFORMS,
        "probes": PROBES,
        "papers": ITEMS,
    }
    if what is not None and what not in tables:
        raise InputError(f"unknown list {what!r}; {nearest(what, list(tables))}")
    titles = [what] if what else list(tables)
    width = max(len(name) for title in titles for name in tables[title])
    for title in titles:
        typer.echo(f"{title}:")
        for name in tables[title]:
            typer.echo(f"  {name:{width}}  {tables[title].describe(name)}")
