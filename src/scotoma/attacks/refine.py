"""What a search for few changed pixels leaves to be taken back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scotoma.attacks.oracle import Oracle, narrow
from scotoma.attacks.pointwise import Pointwise
from scotoma.claim import Threat
from scotoma.randomness import Randomness


def take_back(model: nn.Module, images: Tensor, labels: Tensor, found: Tensor, random: Randomness) -> None:
    """Take changed pixels of `found` back, in place, until none that is left can be; the others may go to the edge of the box."""
    rows = (found != images).flatten(1).any(1).nonzero().squeeze(1)
    if not len(rows):
        return
    part = narrow(model, rows), images[rows], labels[rows]
    start = found[rows]
    delta = start - part[1]
    corner = torch.where(delta == 0, start, (delta > 0).to(start))
    fooled = Oracle(part[0], part[2]).fooled(corner)
    start[fooled] = corner[fooled]
    found[rows] = Pointwise(Threat("l0", 1)).search(*part, start, random.narrow(rows))
