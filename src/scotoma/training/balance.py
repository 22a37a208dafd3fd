"""Batches that hold equally many images of every class."""

from __future__ import annotations

import torch
from torch import Tensor

from scotoma.utils.errors import InputError


def balanced_order(labels: Tensor, classes: int, batch: int, generator: torch.Generator) -> Tensor:
    """Training images in an order whose every `batch` images hold each class equally often, class after class in turn.

    Every class is shuffled and taken round again until there are as many batches as fill the training split once.

    Args:
        labels: int64 (n,).
        classes: how many there are.
        batch: a multiple of `classes`.
        generator: for the shuffles.

    Returns:
        int64 indices, a multiple of `batch` of them.

    Raises:
        InputError: a class without an image.
    """
    each = batch // classes
    need = -(-len(labels) // batch) * each
    members = [(labels == label).nonzero().squeeze(1) for label in range(classes)]
    if empty := [str(label) for label, rows in enumerate(members) if not len(rows)]:
        raise InputError(
            f"there are no training images of class {', '.join(empty)}, and every batch is to hold some"
        )
    return torch.stack([_dealt(rows, need, generator) for rows in members], 1).flatten()


def _dealt(rows: Tensor, need: int, generator: torch.Generator) -> Tensor:
    rounds = -(-need // len(rows))
    return torch.cat([rows[torch.randperm(len(rows), generator=generator)] for _ in range(rounds)])[
        :need
    ]
