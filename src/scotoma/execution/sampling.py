"""In which order test images are taken, and how many are worked on together."""

from __future__ import annotations

import torch
from torch import Tensor

UNIT = 250
"""Images in a work unit: what is lost when a run is killed, and the granularity of its files."""
FIRST = 50
"""Images in the first one, after which an audit has something to tell."""


def stages(n: int) -> list[int]:
    """Numbers of images, of n, after which to tell what was found: whole work units, about twice as many each time."""
    ends = []
    while (end := 2 * ends[-1] if len(ends) > 1 else (FIRST, UNIT)[len(ends)]) < n:
        ends.append(end)
    return [*ends, n]


def units(indices: Tensor) -> list[Tensor]:
    """The images of each work unit: the first `FIRST`, the others up to `UNIT`, then always so many."""
    if len(indices) <= UNIT:
        return [part for part in indices.tensor_split([FIRST]) if len(part)] or [indices]
    return [*units(indices[:UNIT]), *indices[UNIT:].split(UNIT)]


def shuffled(n: int, seed: int) -> Tensor:
    """The random order in which test images are taken, int64 (n,)."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
