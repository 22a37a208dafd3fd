"""A majority vote of shifted copies."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from scotoma.models.defences.base import Defence

SHIFTS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
"""Rows and columns by which the copies are shifted; the first one decides a tie with its weight."""


class Vote(Defence):
    """Counts the votes of shifted copies of the image: logits are whole numbers.

    The copy that is not shifted has one and a half votes, so that fewer votes are equal.

    Source: the vote of Cao and Gong 2017, "Mitigating evasion attacks to deep neural networks via
    region-based classification", over shifts instead of random points.
    Broken by: He, Li and Song 2018, "Decision boundary analysis of adversarial examples" (examples
    with a margin against the whole region).

    >>> from torch import nn
    >>> Vote(nn.Flatten())(torch.eye(3)[None, None, 1:2]).sum().item()
    5.5
    """

    def forward(self, images: Tensor) -> Tensor:
        shifted = [torch.roll(images, shift, dims=(2, 3)) for shift in SHIFTS]
        logits = [self.network(copy) for copy in shifted]
        votes = [F.one_hot(each.argmax(1), each.shape[1]).to(each.dtype) for each in logits]
        return torch.stack(votes).sum(0) + 0.5 * votes[0]
