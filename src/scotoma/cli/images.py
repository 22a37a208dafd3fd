"""The options on images that are decoded from files, which many commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

Images = dict[str, Any]
"""The options of a command as arguments of `load_data`."""

OPTIONS: dict[str, tuple[Any, Any]] = {
    "train": (
        Annotated[
            str | None,
            typer.Option(metavar="DATA", help="Training images, if they lie apart from --data."),
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
}
"""Name, annotation and default of each option."""


def image_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options in place of its parameter `images`, which gets all of them."""
    signature = inspect.signature(command, eval_str=True)

    def run(**given: Any) -> None:
        command(images={name: given.pop(name) for name in OPTIONS}, **given)

    options = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
        )
        for name, (annotation, default) in OPTIONS.items()
    ]
    parameters = []
    for parameter in signature.parameters.values():
        own = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        parameters += options if parameter.name == "images" else [own]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run
