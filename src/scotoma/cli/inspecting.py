"""The command `inspect`: what a model is, before any attack."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from scotoma.cli.app import (
    THREAT,
    Data,
    DataRoot,
    Model,
    OutputsOption,
    TrustPickle,
    ValueRange,
    Weights,
    app,
)
from scotoma.cli.images import Images, image_options


@app.command()
@image_options
def inspect(
    model: Model,
    data: Data,
    threat: Annotated[str | None, THREAT] = None,
    weights: Weights = None,
    trust_pickle: TrustPickle = False,
    value_range: ValueRange = None,
    outputs: OutputsOption = None,
    data_root: DataRoot = None,
    *,
    images: Images,
) -> None:
    """Say what a model is and does with a few images, and the first thing to fix."""
    from scotoma.claim import Threat
    from scotoma.models.inspection import inspect as look
    from scotoma.models.loading import fitted, load_pair

    size = Threat.parse(threat) if threat else None
    access: dict[str, Any] = {"weights": weights, "trust_pickle": trust_pickle}
    access |= {"value_range": value_range, "outputs": outputs}
    opened, loaded = load_pair(model, data, data_root, **access, **images)
    for heading, text in look(opened, fitted(loaded, opened), size).items():
        typer.echo(f"{heading:<13} {text}")
