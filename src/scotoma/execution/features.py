"""Features of a whole split, in memory or, where they are too many, in a temporary file."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from scotoma.data.dataset import Split
from scotoma.execution.batching import Executor, Transform
from scotoma.models.features import features
from scotoma.utils.progress import Advance

IN_MEMORY = 2**28
"""Number of feature values kept in memory, a gigabyte in float32."""


def read_features(
    executor: Executor,
    folder: Path,
    module: nn.Module,
    split: Split,
    layer: str | None,
    indices: Tensor,
    transform: Transform | None,
    advance: Advance,
) -> np.ndarray:
    """Return features of the split's images in a layer, float32 (n, d); see `Run.features`.

    A temporary file may lie in `folder`.
    """
    table: np.ndarray | None = None
    start = 0

    def read(batch: Tensor) -> None:
        nonlocal table, start
        images = split.images(batch)
        images = executor.place(transform(images) if transform else images)
        values = features(module, images, layer).cpu().numpy()
        if table is None:
            table = _empty(folder, (len(indices), values.shape[1]))
        table[start : start + len(batch)] = values
        start += len(batch)

    with executor.seeded():
        executor.map_batches(indices, read, advance, split)
    assert table is not None
    return table


def _empty(folder: Path, shape: tuple[int, int]) -> np.ndarray:
    """Return float32 to be filled: in memory, or in a file that is deleted with the array."""
    if math.prod(shape) <= IN_MEMORY:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.float32, "w+", shape=shape)
