"""Layers and sequences of named layers, and the smallest images that they take."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor, nn

from scotoma.utils.errors import InputError

Shape = tuple[int, int, int]
"""Channels, height and width of images."""
NAMES = {nn.Conv2d: "conv", nn.BatchNorm2d: "norm", nn.MaxPool2d: "pool", nn.Linear: "fc"}
"""Names of layers, where they are not the class in lower case."""
KNOWN = ("torch.nn.modules.", "scotoma.")
"""Beginnings of the modules whose layers are known by their class."""
COMPUTES = ("__call__", "forward", "_conv_forward")
"""Methods that decide what a layer computes."""


class Binarise(nn.Module):
    """Sets pixels from `threshold` on to 1 and all others to 0.

    An L-inf perturbation has an effect only if it crosses the threshold. No gradient passes, so
    attacks that follow one need BPDA.
    """

    gradient: ClassVar = "bpda"

    def __init__(self, threshold: float = 0.5):
        super().__init__()
        self.threshold = threshold

    def forward(self, images: Tensor) -> Tensor:
        return (images >= self.threshold).to(images.dtype)


def sequence(*layers: nn.Module) -> nn.Sequential:
    """Build a sequence with names by kind, numbered if the kind occurs more than once.

    >>> [name for name, _ in sequence(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).named_children()]
    ['fc1', 'relu', 'fc2']
    """
    kinds = [NAMES.get(type(layer), type(layer).__name__.lower()) for layer in layers]
    numbers = [kinds[: i + 1].count(kind) for i, kind in enumerate(kinds)]
    pairs = zip(kinds, numbers, strict=True)
    names = [kind if kinds.count(kind) == 1 else f"{kind}{number}" for kind, number in pairs]
    return nn.Sequential(OrderedDict(zip(names, layers, strict=True)))


def convolution(
    inputs: int,
    outputs: int,
    size: int,
    stride: int = 1,
    padding: int = 0,
    activation: type[nn.Module] = nn.ReLU,
) -> tuple[nn.Module, nn.Module]:
    """Return a convolution and its activation."""
    return nn.Conv2d(inputs, outputs, size, stride, padding), activation()


def parts(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of nested sequences in order; any other module is one layer."""
    if isinstance(model, nn.Sequential) and is_plain(model):
        for part in model:
            yield from parts(part)
    else:
        yield model


def is_plain(layer: nn.Module) -> bool:
    """Return whether a layer computes what the class of torch or of ours does that it is one of.

    A subclass with a `forward` of its own, or a hook, computes something else.

    >>> doubled = nn.Linear(2, 2)
    >>> _ = doubled.register_forward_hook(lambda layer, given, made: 2 * made)
    >>> is_plain(nn.Linear(2, 2)), is_plain(doubled)
    (True, False)
    """
    if layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer):
        return False
    kinds = [kind for kind in type(layer).__mro__ if kind.__module__.startswith(KNOWN)]
    return bool(kinds) and all(
        getattr(type(layer), name, None) is getattr(kinds[0], name, None) for name in COMPUTES
    )


def at_least(pixels: int, shape: Shape, arch: str) -> Shape:
    """Return the shape; raise `InputError` if a side is shorter than `pixels`."""
    if min(shape[1:]) < pixels:
        size = f"{shape[1]}x{shape[2]}"
        raise InputError(f"{arch} needs images of at least {pixels}x{pixels} pixels, not {size}")
    return shape
