"""The order in which test images are attacked, and the images of a work unit."""

from __future__ import annotations

import torch
from torch import Tensor

UNIT = 250
"""Images of a work unit, which is computed again if a run is killed in the middle of it."""
FIRST = 50
"""Images of the first work unit, after which an audit has first results."""

SAMPLED = 200
"""Images that all probes audit where a precision is asked for and no number of images."""


def stages(n: int) -> list[int]:
    """Return the numbers of images, up to n, after which probes report.

    They are whole work units, about twice as many images each time.

    >>> stages(600)
    [50, 250, 500, 600]
    """
    ends = []
    while (end := 2 * ends[-1] if len(ends) > 1 else (FIRST, UNIT)[len(ends)]) < n:
        ends.append(end)
    return [*ends, n]


def sample_size(limit: int | None, precision: float | None) -> int | None:
    """Return the number of images that all probes audit; None means all.

    >>> sample_size(None, None), sample_size(None, 0.02), sample_size(500, 0.02)
    (None, 200, 500)
    """
    return SAMPLED if limit is None and precision is not None else limit


def units(indices: Tensor) -> list[Tensor]:
    """Return the images of each work unit: `FIRST`, the rest up to `UNIT`, then `UNIT` each."""
    if len(indices) <= UNIT:
        return [part for part in indices.tensor_split([FIRST]) if len(part)] or [indices]
    return [*units(indices[:UNIT]), *indices[UNIT:].split(UNIT)]


def shuffled(n: int, seed: int) -> Tensor:
    """Return the random order of n test images, int64 (n,)."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
