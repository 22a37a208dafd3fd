"""What attacks built around another attack share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from scotoma.attacks.core.base import Attack
from scotoma.claim import NORMS
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class Wrapped(Attack):
    """An attack that changes the model that another attack sees, or the images that it returns.

    Args:
        attack: the other attack.
    """

    norms: ClassVar = tuple(NORMS)
    attack: Callable[..., Tensor]

    @property
    def norm(self) -> str:
        """The norm of the other attack."""
        return self.attack.norm  # type: ignore[attr-defined]

    def wrap(self, model: nn.Module, images: Tensor, random: Randomness) -> nn.Module:
        """Return the model that the other attack sees."""
        return model

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        return self.attack(self.wrap(model, images, random), images, labels, generator=random)

    def run_from(
        self, start: Tensor, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> Tensor:
        wrapped = self.wrap(model, images, random)
        return self.attack(wrapped, images, labels, start=start, generator=random)
