"""Losses that attacks ascend: one number an image, larger when the model is more wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from scotoma.utils.logits import magnitude

GUARD = 1e-5
"""Share of the largest logit by which a success must win, more than rounding can undo."""


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -log p(label), (n,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def towards(logits: Tensor, classes: Tensor) -> Tensor:
    """Return log p(class), (n,)."""
    return -F.cross_entropy(logits, classes, reduction="none")


def least_likely(logits: Tensor, labels: Tensor) -> Tensor:
    """Return log p of the class that is least likely by these logits, (n,) (Step-LL)."""
    return towards(logits, logits.argmin(1))


def wrong_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logits with the label's at -inf, (n, classes)."""
    return logits.scatter(1, labels[:, None], -torch.inf)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the largest wrong logit minus the label's, (n,): positive when the model is wrong."""
    wrong = wrong_logits(logits, labels).amax(1)
    return wrong - logits.gather(1, labels[:, None]).squeeze(1)


def fooled(logits: Tensor, labels: Tensor) -> Tensor:
    """Return which rows are wrong by more than `GUARD`, bool (n,). Rows not finite are not."""
    return margin(logits, labels) > GUARD * magnitude(logits)


def targeted_margin(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the target's logit minus the label's, (n,)."""
    return (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None])).squeeze(1)


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the targeted difference of logits ratio, (n,) (Croce and Hein 2020, eq. 7).

    This is the target's margin over the distance of the largest logit from the mean of the third
    and fourth, which is independent of shift and scale; with fewer than four classes, the margin.
    """
    difference = targeted_margin(logits, labels, targets)
    if logits.shape[1] < 4:
        return difference
    scale = logits.topk(4).values @ logits.new_tensor([1, 0, -0.5, -0.5])
    return difference / (scale + 1e-12)
