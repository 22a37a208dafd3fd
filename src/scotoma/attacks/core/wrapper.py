"""What an attack built around another takes from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from scotoma.claim import Threat


@dataclass(frozen=True)
class Wrapped:
    """An attack that changes how another asks, or what it found.

    Args:
        attack: the other.
    """

    attack: Callable[..., Tensor]

    @property
    def norms(self) -> tuple[str, ...]:
        """Those of the other."""
        return getattr(self.attack, "norms", ("linf",))

    @property
    def threat(self) -> Threat:
        """That of the other."""
        return self.attack.threat  # type: ignore[attr-defined]
