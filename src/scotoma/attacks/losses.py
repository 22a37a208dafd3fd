"""What attacks ascend: one number an image, larger when the model is more wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GUARD = 1e-5
"""A success must win by this share of the largest logit, so that rounding in another batch cannot undo it."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p(label), (n,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest wrong logit minus the label's, (n,): positive when the model is wrong."""
    label = labels[:, None]
    return logits.scatter(1, label, -torch.inf).amax(1) - logits.gather(1, label).squeeze(1)


def fooled(logits: Tensor, labels: Tensor) -> Tensor:
    """Which rows are wrong beyond rounding (see `GUARD`), bool (n,). Rows that are not finite are not fooled."""
    return margin(logits, labels) > GUARD * logits.abs().amax(1)
