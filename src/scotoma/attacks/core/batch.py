"""Images under attack with all that an attack needs, for attacks made of other attacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from scotoma.attacks.core.oracle import select
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class Batch:
    """A model, images (n, c, h, w), labels (n,) and the random numbers of each image."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    random: Randomness

    def select(self, rows: Tensor) -> Batch:
        """Return the batch of only the images in `rows` (a mask or indices)."""
        model, random = select(self.model, rows), self.random.select(rows)
        return Batch(model, self.images[rows], self.labels[rows], random)

    def fork(self, number: int) -> Batch:
        """Return the batch with separate random numbers for part `number` of an attack."""
        return replace(self, random=self.random.fork(number))

    def attacked(self, attack: Callable[..., Tensor], start: Tensor | None = None) -> Tensor:
        """Return what an attack returns, which begins at `start` if given."""
        return attack(self.model, self.images, self.labels, start=start, generator=self.random)


def changed(adversarial: Tensor, images: Tensor) -> Tensor:
    """Return which images were changed, bool (n,)."""
    return (adversarial != images).flatten(1).any(1)
