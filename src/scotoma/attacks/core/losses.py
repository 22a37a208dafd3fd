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


def towards(logits: Tensor, classes: Tensor) -> Tensor:
    """log p(class), (n,): larger the surer the model is of that class."""
    return -F.cross_entropy(logits, classes, reduction="none")


def least_likely(logits: Tensor, labels: Tensor) -> Tensor:
    """log p of the class that these logits find least likely, (n,), whatever the label (Step-LL)."""
    return towards(logits, logits.argmin(1))


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Largest wrong logit minus the label's, (n,): positive when the model is wrong."""
    label = labels[:, None]
    return logits.scatter(1, label, -torch.inf).amax(1) - logits.gather(1, label).squeeze(1)


def fooled(logits: Tensor, labels: Tensor) -> Tensor:
    """Which rows are wrong beyond rounding (see `GUARD`), bool (n,). Rows that are not finite are not fooled."""
    return margin(logits, labels) > GUARD * logits.abs().amax(1)


def targeted_margin(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The target's logit minus the label's, (n,): positive when the target beats the label."""
    return (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None])).squeeze(1)


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Targeted difference of logits ratio, (n,) (Croce and Hein 2020, eq. 7).

    The margin of the target over the distance of the largest logit from the mean of the third and fourth: it knows neither
    shift nor scale of the logits. With fewer than four classes that distance does not exist and the margin itself is returned.
    """
    difference = targeted_margin(logits, labels, targets)
    if logits.shape[1] < 4:
        return difference
    scale = logits.topk(4).values @ logits.new_tensor([1, 0, -0.5, -0.5])
    return difference / (scale + 1e-12)
