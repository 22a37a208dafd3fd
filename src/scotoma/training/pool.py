"""Further images to learn from beside those of a data set."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

POOLED = 0.25
"""Images of a pool that join each batch, as a share of its images."""


@dataclass(frozen=True, eq=False, repr=False)
class Pool:
    """Further labelled images to learn from, such as those of a generative model.

    Args:
        images: (n, c, h, w) in [0, 1].
        labels: int64 (n,).
        name: what they are, for the card of the model.

    >>> Pool(torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]), "images of a flow")
    2 images of a flow 604ddb808b457a3e
    """

    images: Tensor
    labels: Tensor
    name: str

    def __repr__(self) -> str:
        content = self.images.cpu().numpy().tobytes() + self.labels.cpu().numpy().tobytes()
        return f"{len(self.labels)} {self.name} {hashlib.sha256(content).hexdigest()[:16]}"

    def drawn(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Return random images of the pool and their labels, on the generator's device."""
        where = generator.device
        rows = torch.randint(len(self.labels), (count,), generator=generator, device=where).cpu()
        return self.images[rows].to(where), self.labels[rows].to(where)
