"""Layers of models, and the smallest images that they take."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from scotoma.utils.errors import InputError

Shape = tuple[int, int, int]
"""Channels, height and width of images."""


def parts(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of nested sequences in order; any other module is one layer."""
    if isinstance(model, nn.Sequential):
        for part in model:
            yield from parts(part)
    else:
        yield model


def at_least(pixels: int, shape: Shape, arch: str) -> Shape:
    """Return the shape; raise `InputError` if a side is shorter than `pixels`."""
    if min(shape[1:]) < pixels:
        size = f"{shape[1]}x{shape[2]}"
        raise InputError(f"{arch} needs images of at least {pixels}x{pixels} pixels, not {size}")
    return shape
