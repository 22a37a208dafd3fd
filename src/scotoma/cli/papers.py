"""Commands about what is there: `reproduce`, `list`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scotoma.cli.app import (
    DataRoot,
    Seed,
    app,
    shown,
    typed,
)
from scotoma.utils.errors import InputError


@app.command()
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
            help="The folder; the same command continues there [default: runs/PAPER, runs/PAPER/ITEM]."
        ),
    ] = None,
    attack: Annotated[
        str | None, typer.Option(help="See `scotoma list attacks` [default: the paper's].")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Attack so many images [default: as many as the paper].")
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(
            help="Where reference models are looked for first, and written when they must be trained [default: a cache]."
        ),
    ] = None,
    seed: Seed = 0,
    data_root: DataRoot = None,
) -> None:
    """Measure a paper's table or figure again and print ours beside the published numbers."""
    from scotoma.execution.ranks import ranks
    from scotoma.papers.running import reproduce as run

    finished = run(
        name,
        out,
        attack=attack,
        limit=limit,
        seed=seed,
        models=models,
        data_root=data_root,
        progress=shown(),
        say=lambda line: typer.echo(line, err=True) if ranks().leads else None,
        command=typed(),
    )
    for reproduction in finished if ranks().leads else ():
        reproduction.show()


@app.command(name="list")
def list_names(
    what: Annotated[
        str | None,
        typer.Argument(
            help="attacks, attributions, models, data, recipes, augmentations, transforms, probes or papers [default: all]."
        ),
    ] = None,
) -> None:
    """List what can be named: attacks, attributions, models, data, recipes, augmentations, transforms, probes, papers."""
    from scotoma.attacks import ATTACKS
    from scotoma.attribution import ATTRIBUTIONS
    from scotoma.data import DATA
    from scotoma.models import ARCHITECTURES
    from scotoma.papers import ITEMS
    from scotoma.probes import PROBES
    from scotoma.training import AUGMENTATIONS, RECIPES
    from scotoma.transforms import TRANSFORMS
    from scotoma.utils.registry import nearest

    tables = {
        "attacks": ATTACKS,
        "attributions": ATTRIBUTIONS,
        "models": ARCHITECTURES,
        "data": DATA,
        "recipes": RECIPES,
        "augmentations": AUGMENTATIONS,
        "transforms": TRANSFORMS,
        "probes": PROBES,
        "papers": ITEMS,
    }
    if what is not None and what not in tables:
        raise InputError(f"nothing is listed as {what!r}; {nearest(what, list(tables))}")
    chosen = [what] if what else list(tables)
    width = max(len(name) for title in chosen for name in tables[title])
    for title in chosen:
        typer.echo(f"{title}:")
        for name in tables[title]:
            typer.echo(f"  {name:{width}}  {tables[title].describe(name)}")
