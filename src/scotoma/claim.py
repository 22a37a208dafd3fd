"""A claim of robustness: this model, on this data, is right under every perturbation inside this threat model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scotoma.errors import InputError
from scotoma.table import nearest

if TYPE_CHECKING:
    from torch import Tensor

    from scotoma.data.dataset import Dataset
    from scotoma.models.classifier import Classifier

TOLERANCE = 1e-6
"""Slack on every distance and range check: `x + eps - x` differs from eps by a few units in the last place."""

NORMS = ["linf"]


@dataclass(frozen=True)
class Threat:
    """A norm and a size: the perturbations that the claim says are harmless.

    Args:
        norm: "linf", the largest change of any pixel.
        eps: its bound, in (0, 1], on images in [0, 1].
    """

    norm: str
    eps: float

    def __post_init__(self):
        if self.norm not in NORMS:
            raise InputError(f"unknown norm {self.norm!r} in the threat; {nearest(self.norm, NORMS)}")
        if not 0 < self.eps <= 1:
            raise InputError(f"eps is {self.eps:g} in the threat; images are in [0, 1], so it must lie in (0, 1]")

    @classmethod
    def parse(cls, text: str | Threat) -> Threat:
        """Read "linf:0.3" or "linf:8/255". Raises `InputError` for anything else."""
        if isinstance(text, Threat):
            return text
        norm, colon, size = text.partition(":")
        if not colon:
            raise InputError(f"threat {text!r} has no size; write it as norm:eps, for example linf:0.3 or linf:8/255")
        numerator, slash, denominator = size.partition("/")
        try:
            eps = float(numerator) / (float(denominator) if slash else 1.0)
        except (ValueError, ZeroDivisionError):
            raise InputError(f"eps {size!r} in threat {text!r} is not a number; write 0.3 or 8/255") from None
        return cls(norm, eps)

    def __str__(self) -> str:
        scaled = self.eps * 255
        whole = abs(scaled - round(scaled)) < 1e-9 and self.eps < 0.1
        return f"{self.norm}:{round(scaled)}/255" if whole else f"{self.norm}:{self.eps:g}"

    def project(self, images: Tensor, originals: Tensor) -> Tensor:
        """The nearest images inside the threat around `originals` and inside [0, 1]. Both are (n, c, h, w)."""
        return images.maximum(originals - self.eps).minimum(originals + self.eps).clamp_(0, 1)


@dataclass(frozen=True)
class Claim:
    """What is audited: `model` on `data` is right under every perturbation inside `threat`."""

    model: Classifier
    data: Dataset
    threat: Threat
