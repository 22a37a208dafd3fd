"""How much contrast a transform leaves: what a perturbation's size is fairly measured against."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from scotoma.transforms.control import Control
from scotoma.transforms.scale_shift import ScaleShift


def contrast(transform: Callable[[Tensor], Tensor] | None) -> float:
    """alpha of scale-shift, and of its control, which is attacked with the same budget; 1 for all that leaves the contrast."""
    inner = transform.of if isinstance(transform, Control) else transform
    return inner.alpha if isinstance(inner, ScaleShift) else 1.0
