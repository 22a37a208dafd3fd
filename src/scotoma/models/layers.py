"""What a model is made of."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn


def parts(model: nn.Module) -> Iterator[nn.Module]:
    """The layers of sequences within sequences, in order; any other module is one part."""
    if isinstance(model, nn.Sequential):
        for part in model:
            yield from parts(part)
    else:
        yield model
