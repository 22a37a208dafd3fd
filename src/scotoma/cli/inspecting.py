"""The command `inspect`: what a model is, before any attack."""

from __future__ import annotations

from typing import Annotated

import typer

from scotoma.cli.app import (
    THREAT,
    Data,
    DataRoot,
    Model,
    app,
)
from scotoma.cli.groups import Access, Images, grouped


@app.command(short_help="Describe a model and name the first thing to fix.")
@grouped
def inspect(
    model: Model,
    data: Data,
    threat: Annotated[str | None, THREAT] = None,
    data_root: DataRoot = None,
    *,
    access: Access,
    images: Images,
) -> None:
    """Say what a model is and does with a few images, and the first thing to fix."""
    from scotoma.models.inspection import inspect as look
    from scotoma.models.loading import fitted, load_pair
    from scotoma.threat import Threat

    size = Threat.parse(threat) if threat else None
    classifier, dataset = load_pair(model, data, data_root, **access, **images)
    for heading, text in look(classifier, fitted(dataset, classifier), size).items():
        typer.echo(f"{heading:<13} {text}")
