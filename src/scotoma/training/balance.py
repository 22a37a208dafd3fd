"""Batches with the same number of images of every class."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from scotoma.utils.errors import InputError


def balanced_order(labels: Tensor, classes: int, batch: int, generator: Generator) -> Tensor:
    """Return an order of the training images in which every batch has each class equally often.

    Classes take turns within a batch. Each class is shuffled, and repeated, until there are as many
    batches as the training split fills once.

    Args:
        labels: int64 (n,).
        classes: number of classes.
        batch: a multiple of `classes`.
        generator: for the shuffles.

    Returns:
        int64 indices, a multiple of `batch` of them.

    Raises:
        InputError: a class without an image.

    >>> labels = torch.tensor([0, 0, 0, 1])
    >>> labels[balanced_order(labels, 2, 2, torch.Generator())].tolist()
    [0, 1, 0, 1]
    """
    need = -(-len(labels) // batch) * (batch // classes)
    members = [(labels == label).nonzero().squeeze(1) for label in range(classes)]
    if empty := [str(label) for label, rows in enumerate(members) if not len(rows)]:
        raise InputError(
            f"there are no training images of class {', '.join(empty)}, "
            "but every batch needs images of all classes"
        )
    return torch.stack([_repeated(rows, need, generator) for rows in members], 1).flatten()


def _repeated(rows: Tensor, need: int, generator: Generator) -> Tensor:
    rounds = range(-(-need // len(rows)))
    shuffles = [rows[torch.randperm(len(rows), generator=generator)] for _ in rounds]
    return torch.cat(shuffles)[:need]
