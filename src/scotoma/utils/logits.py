"""The scale of logits, beside which differences are rounding."""

from __future__ import annotations

import torch
from torch import Tensor

FAR = 1000.0
"""A logit this many times larger than the two highest is out of scale with them: a class that is
masked by -1e9. Networks, also those that return log-probabilities, stay below a few hundred."""


HUGE, SHIFTED = 1e4, 100.0
"""A largest logit above the first, and above the second times the distance of highest and lowest,
is a constant that all logits share, which changes no prediction. Below 1e4 the rounding
of a constant matters less than the guard, and two classes that nearly tie look like it."""
ROUNDED = 0.04
"""Share of such a constant that counts: with a guard of 1e-5 of it, three or more steps of
float32 at that height."""


def magnitude(logits: Tensor) -> Tensor:
    """Return the largest absolute logit of each image, (n,).

    Where it is more than `FAR` times the two highest logits, it is of a masked class, which rounds
    apart from them: then the larger of these two counts. Where it is above `HUGE` and more than
    `SHIFTED` times the distance between the highest and the lowest, it is a constant added to all:
    then only the share `ROUNDED` of it counts, or that distance if it is larger.

    Args:
        logits: (n, classes).

    >>> magnitude(torch.tensor([[3.0, 2.0, -9.0], [3.0, 2.0, -1e9], [1e5, 1e5, 1e5 - 9]])).tolist()
    [9.0, 3.0, 4000.0]
    """
    low, high = logits.aminmax(dim=1)
    largest, distance = torch.maximum(high, -low), high - low
    highest = logits.topk(min(2, logits.shape[1]), dim=1).values.abs().amax(1)
    masked = largest.isfinite() & (largest > FAR * highest)
    shifted = (largest > HUGE) & (largest > SHIFTED * distance)
    apart = torch.where(shifted, distance.maximum(ROUNDED * largest), largest)
    return torch.where(masked, highest, apart)
