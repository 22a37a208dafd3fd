"""Duan et al. 2023, measured again: L-inf training lets few pixels decide, and what noise and squares on these do."""

from __future__ import annotations

import torch
from torch import Tensor

from scotoma.data.dataset import Dataset
from scotoma.execution.sampling import shuffled
from scotoma.papers.duan2023 import published
from scotoma.papers.item import Context
from scotoma.utils.errors import InputError

UNIT = 50
"""Images that are examined together: what is lost when an item is stopped."""


def common(context: Context, models: tuple[str, ...], n: int = published.IMAGES) -> Tensor:
    """Test images that all the models have right, int64, in the random order of the seed; the first n of them, or all.

    Raises `InputError` where there is none.
    """
    right = torch.ones(len(context.data(models[0]).test), dtype=torch.bool)
    for model in models:
        told = context.run(model).predictions()
        right &= torch.from_numpy((told["prediction"] == told["label"]).to_numpy())
    order = shuffled(len(right), context.seed)
    found = order[right[order]][: min(context.limit or n, n)]
    if not len(found):
        raise InputError(
            f"no test image is one that {', '.join(models)} all have right: there is nothing to compare them on"
        )
    return found


def channels(data: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over the training images: what the paper standardises images with."""
    split = data.train or data.test
    total, squares, values = (
        torch.zeros(data.shape[0]).double(),
        torch.zeros(data.shape[0]).double(),
        0,
    )
    for rows in torch.arange(len(split)).split(1000):
        images = split.images(rows).double()
        total, squares = total + images.sum((0, 2, 3)), squares + images.square().sum((0, 2, 3))
        values += len(rows) * images.shape[2:].numel()
    mean = total / values
    deviation = (squares / values - mean.square()).sqrt()
    return tuple(map(_rounded, mean.tolist())), tuple(map(_rounded, deviation.tolist()))


def _rounded(value: float) -> float:
    """What rounding of sums cannot change, since it is part of what work is known by."""
    return float(f"{value:.6g}")
