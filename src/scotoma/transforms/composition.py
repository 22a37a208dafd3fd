"""Several transforms in turn, as one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Composition:
    """Transforms applied one after the other.

    Args:
        parts: the transforms, the first one first.

    >>> import torch
    >>> from scotoma.transforms import Gamma, ScaleShift
    >>> both = Composition((Gamma(2.0), ScaleShift(0.5, 0.25)))
    >>> both(torch.tensor([[[[0.5]]]])).item(), both.contrast
    (0.625, 0.5)
    """

    parts: tuple[Callable[[Tensor], Tensor], ...]

    def __call__(self, images: Tensor) -> Tensor:
        for part in self.parts:
            images = part(images)
        return images

    @property
    def contrast(self) -> float:
        """Product of the shares of the contrast that the parts leave."""
        return math.prod(float(getattr(part, "contrast", 1.0)) for part in self.parts)

    def __str__(self) -> str:
        return ", then ".join(map(str, self.parts)) or "no transform"
