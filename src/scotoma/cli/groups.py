"""Groups of options that many commands share, each of which a command takes as one parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from scotoma.cli.app import TrustPickle, Weights

Access = dict[str, Any]
"""How a model is opened, as arguments of `load_model`."""
Images = dict[str, Any]
"""How images are decoded from files, as arguments of `load_data`."""

GROUPS: dict[str, dict[str, tuple[Any, Any]]] = {
    "access": {
        "weights": (Weights, None),
        "trust_pickle": (TrustPickle, False),
        "value_range": (
            Annotated[
                str | None,
                typer.Option(
                    "--range",
                    metavar="LOW:HIGH",
                    help="Values of black and white that a black box takes, as 0:255 "
                    "[default: inferred].",
                ),
            ],
            None,
        ),
        "outputs": (
            Annotated[
                str | None,
                typer.Option(
                    "--outputs",
                    metavar="KIND",
                    help="What a black box returns: logits or probabilities [default: inferred].",
                ),
            ],
            None,
        ),
    },
    "images": {
        "train": (
            Annotated[
                str | None,
                typer.Option(metavar="DATA", help="Training images, if --data has none."),
            ],
            None,
        ),
        "size": (
            Annotated[
                str | None,
                typer.Option(
                    metavar="N|HxW",
                    help="Stretch image files to this size [default: what the model asks for].",
                ),
            ],
            None,
        ),
        "resize": (
            Annotated[
                int | None,
                typer.Option(help="Resize the shorter side of image files; goes with --crop."),
            ],
            None,
        ),
        "crop": (
            Annotated[int | None, typer.Option(help="Keep the square of this side in the centre.")],
            None,
        ),
        "interpolation": (
            Annotated[
                str | None,
                typer.Option(help="bilinear or bicubic [default: that of the model, or bilinear]."),
            ],
            None,
        ),
        "on_error": (
            Annotated[
                str, typer.Option(help="Files that cannot be read: refuse the data, or skip them.")
            ],
            "refuse",
        ),
    },
}
"""Parameter of a command to its options: name, annotation and default of each."""


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all options of its parameters `access` and `images`."""
    signature = inspect.signature(command, eval_str=True)
    groups = {name: GROUPS[name] for name in GROUPS if name in signature.parameters}

    def run(**arguments: Any) -> None:
        collected = {
            group: {name: arguments.pop(name) for name in members}
            for group, members in groups.items()
        }
        command(**arguments, **collected)

    parameters = []
    for parameter in signature.parameters.values():
        members = groups.get(parameter.name)
        parameters += (
            [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
            if members is None
            else [
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
                )
                for name, (annotation, default) in members.items()
            ]
        )
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run
