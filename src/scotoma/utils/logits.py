"""The scale of logits, beside which differences are rounding."""

from __future__ import annotations

import torch
from torch import Tensor

FAR = 1000.0
"""Times the two highest logits from which another one is out of scale with them: a class that is
masked by -1e9. Networks, also those that return log-probabilities, stay below a few hundred."""


def magnitude(logits: Tensor) -> Tensor:
    """Return the largest absolute logit of each image, (n,).

    Where it is more than `FAR` times the two highest logits, it is of a masked class, which rounds
    apart from them: then the larger of these two counts.

    Args:
        logits: (n, classes).

    >>> magnitude(torch.tensor([[3.0, 2.0, -9.0], [3.0, 2.0, -1e9]])).tolist()
    [9.0, 3.0]
    """
    largest = logits.abs().amax(1)
    highest = logits.topk(min(2, logits.shape[1]), dim=1).values.abs().amax(1)
    masked = largest.isfinite() & (largest > FAR * highest)
    return torch.where(masked, highest, largest)
