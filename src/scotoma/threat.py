"""A threat: the perturbations of an image under which a model is claimed to be correct."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scotoma.utils.errors import InputError
from scotoma.utils.registry import nearest
from scotoma.utils.text import norm_name

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-6
"""Slack of distance and range checks: `x + eps - x` differs from eps by rounding."""

NORMS = ["linf", "l2", "l1", "l0"]


@dataclass(frozen=True)
class Threat:
    """A norm and a size: the perturbations that the claim says are harmless.

    Args:
        norm: "linf", the largest change of any value; "l2", the root of the summed squares over the
            whole image; "l1", the sum of absolute changes; "l0", the number of changed pixels, all
            channels of a pixel together.
        eps: bound of the norm on images in [0, 1]: in (0, 1] for L-inf, a whole number for L0.

    Raises:
        InputError: an unknown norm, or a bound that does not fit it.

    >>> threat = Threat.parse("linf:8/255")
    >>> print(threat, round(threat.eps, 4))
    linf:8/255 0.0314
    """

    norm: str
    eps: float

    def __post_init__(self):
        if self.norm not in NORMS:
            raise InputError(
                f"unknown norm {self.norm!r} in the threat; {nearest(self.norm, NORMS)}"
            )
        if self.norm == "linf" and not 0 < self.eps <= 1:
            raise InputError(
                f"eps is {self.eps:g} in the threat; images are in [0, 1], so it must lie in (0, 1]"
            )
        if self.norm == "l0" and self.eps != int(self.eps):
            raise InputError(
                f"eps is {self.eps:g} in the threat; L0 counts pixels, so it must be a whole number"
            )
        if not 0 < self.eps < math.inf:
            raise InputError(f"eps is {self.eps:g} in the threat; want a number above 0")

    @classmethod
    def parse(cls, text: str | Threat) -> Threat:
        """Read "linf:0.3" or "linf:8/255". Raises `InputError` for anything else."""
        if isinstance(text, Threat):
            return text
        if not isinstance(text, str):
            raise InputError(
                f"threat {text!r}: want text such as 'linf:8/255', or Threat('linf', 0.3)"
            )
        norm, colon, size = text.partition(":")
        if not colon:
            lacks = "size" if text in NORMS else "norm"
            raise InputError(
                f"threat {text!r} has no {lacks}; write it as norm:eps, for example linf:0.3 or "
                "linf:8/255"
            )
        numerator, slash, denominator = size.partition("/")
        try:
            eps = float(numerator) / (float(denominator) if slash else 1.0)
        except (ValueError, ZeroDivisionError):
            raise InputError(
                f"eps {size!r} in threat {text!r} is not a number; write 0.3 or 8/255"
            ) from None
        return cls(norm, eps)

    def __str__(self) -> str:
        halves, short = self.eps * 510, f"{self.eps:g}"
        exact = math.isclose(float(short), self.eps, rel_tol=1e-9)  # or an audit repeats another
        if abs(halves - round(halves)) < 1e-9 and (1e-3 < self.eps < 0.1 or not exact):
            return f"{self.norm}:{round(halves) / 2:g}/255"
        return f"{self.norm}:{short if exact else f'{self.eps:.12g}'}"

    @property
    def size(self) -> str:
        """`eps` as text, such as "8/255"."""
        return str(self).partition(":")[2]

    @property
    def words(self) -> str:
        """Norm and size for a sentence, such as "L-inf 8/255"."""
        return f"{norm_name(self.norm)} {self.size}"

    def project(self, images: Tensor, originals: Tensor) -> Tensor:
        """Project `images` into the threat around `originals`, then into [0, 1]: (n, c, h, w)."""
        if self.norm == "linf":
            return images.maximum(originals - self.eps).minimum(originals + self.eps).clamp_(0, 1)
        import torch  # here, since the command line reads this file before it needs torch

        change = images - originals
        if self.norm == "l2":
            sizes = change.flatten(1).norm(dim=1).clamp_min(self.eps)
            change *= (self.eps / sizes)[:, None, None, None]
        elif self.norm == "l1":  # Duchi et al. 2008, Figure 1: by how much all values shrink
            sizes = change.flatten(1).abs().sort(1, descending=True).values
            counts = torch.arange(1, sizes.shape[1] + 1, device=sizes.device)
            surplus = (sizes.cumsum(1) - self.eps) / counts
            less = surplus.gather(1, (sizes > surplus).sum(1, keepdim=True) - 1).clamp_min(0)
            change = change.sign() * (change.abs() - less[:, :, None, None]).clamp_min_(0)
        else:
            sizes = change.abs().amax(1, keepdim=True)
            kept = sizes.flatten(1).topk(min(int(self.eps), sizes[0].numel()), dim=1).indices
            change *= torch.zeros_like(sizes).flatten(1).scatter_(1, kept, 1.0).view_as(sizes)
        return change.add_(originals).clamp_(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the L-inf or L2 perturbation of size eps in which a function rises fastest.

        Args:
            gradient: gradient of the function, (n, c, h, w); the result is 0 where it is 0.
        """
        if self.norm == "linf":
            return gradient.sign().mul_(self.eps)
        if self.norm != "l2":
            raise InputError(f"threat {self}: there are steepest steps in L-inf and L2 only")
        flat = gradient.flatten(1)
        # scaled first, since the square of a small gradient would be 0
        direction = flat / flat.abs().amax(1, keepdim=True).clamp_min(1e-38)
        length = self.eps / direction.norm(dim=1, keepdim=True).clamp_min(1e-30)
        return (direction * length).view_as(gradient)
