"""Whether a gradient reaches the images, how large it is, and whether it repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from scotoma.attacks.core.losses import cross_entropy, margin
from scotoma.attacks.core.oracle import Loss
from scotoma.models.checking import SAME_BATCH
from scotoma.utils.device import batch_size

RESOLUTION = torch.finfo(torch.float32).eps
"""Distance from 1 below which float32 rounds a probability to 1."""


class Sizes(NamedTuple):
    """Sizes (n,) of a loss's gradient at each image; not finite if it is not, 0 without one."""

    mean: Tensor
    """Mean absolute value."""
    largest: Tensor
    l1: Tensor
    l2: Tensor
    zeros: Tensor
    """Share of values that are exactly 0."""

    @classmethod
    def of(cls, gradient: Tensor) -> Sizes:
        """Return the sizes of gradients (n, c, h, w)."""
        sizes = gradient.flatten(1).abs().double()  # the square of a small float32 would be 0
        l2, zeros = sizes.norm(dim=1), (sizes == 0).double().mean(1)
        return cls(sizes.mean(1), sizes.amax(1), sizes.sum(1), l2, zeros)


@dataclass(frozen=True)
class Health:
    """Gradients of the cross-entropy and of the margin at n images, and what may be wrong.

    The cross-entropy's gradient vanishes where the model is confident, whatever it does around the
    image; the margin's does not. The flags `missing`, `zero`, `broken` and `saturated` exclude each
    other.
    """

    cross_entropy: Sizes
    margin: Sizes
    missing: Tensor
    """bool (n,): the logits do not depend on the images in any differentiable way."""
    randomised: Tensor
    """bool (n,): logits or the margin's gradient differ between two passes beyond rounding."""

    @property
    def broken(self) -> Tensor:
        """bool (n,): some value of either gradient is NaN or infinite."""
        return ~(self.cross_entropy.l1.isfinite() & self.margin.l1.isfinite())

    @property
    def zero(self) -> Tensor:
        """bool (n,): every value of both gradients is exactly 0."""
        return ~self.missing & (self.cross_entropy.zeros == 1) & (self.margin.zeros == 1)

    @property
    def saturated(self) -> Tensor:
        """bool (n,): float32 cannot resolve the cross-entropy's gradient beside the margin's.

        It is about (1 - p) times the margin's, where p is the probability of the label, and 1 - p
        is rounded: below `RESOLUTION` only the contribution of the wrong classes remains, if any.
        """
        faint = self.cross_entropy.l1 <= RESOLUTION * self.margin.l1
        return ~self.broken & (self.margin.l1 > 0) & faint


def gradient_health(model: nn.Module, images: Tensor, labels: Tensor) -> Health:
    """Measure the gradients at n images, in two forward and three backward passes.

    Args:
        model: in eval mode; gradients are those with respect to the images.
        images: (n, c, h, w) in [0, 1].
        labels: int64 (n,).

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> health = gradient_health(model, torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0]))
    >>> health.missing.tolist(), health.zero.tolist()
    ([False, False, False], [False, False, False])
    """
    batch = batch_size(images.device, images.shape[1:].numel())
    batches = [
        _measure(model, images[rows], labels[rows])
        for rows in torch.arange(len(images), device=images.device).split(batch)
    ]
    entropies, margins, missing, randomised = zip(*batches, strict=True)
    return Health(_concat(entropies), _concat(margins), torch.cat(missing), torch.cat(randomised))


def _measure(
    model: nn.Module, images: Tensor, labels: Tensor
) -> tuple[Sizes, Sizes, Tensor, Tensor]:
    """Return the fields of `Health` for a batch."""
    logits, (entropy, first) = _gradients(model, images, labels, cross_entropy, margin)
    # Repeat the margin alone: the cross-entropy would magnify the rounding of large logits.
    repeated, (second,) = _gradients(model, images, labels, margin)
    randomised = _differ(logits, repeated)
    missing = torch.full_like(randomised, entropy is None)
    if entropy is None or first is None or second is None:
        nothing = Sizes.of(torch.zeros_like(images))
        return nothing, nothing, missing, randomised
    return Sizes.of(entropy), Sizes.of(first), missing, randomised | _differ(first, second)


def _gradients(
    model: nn.Module, images: Tensor, labels: Tensor, *losses: Loss
) -> tuple[Tensor, Sequence[Tensor | None]]:
    """Return logits and each loss's gradient at the images, None where the graph is cut."""
    leaf = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(leaf).float()
        if not logits.requires_grad:
            return logits, [None for _ in losses]
        sums = [loss(logits, labels).sum() for loss in losses]
        gradients = [
            torch.autograd.grad(total, leaf, retain_graph=True, allow_unused=True)[0]
            for total in sums
        ]
    return logits.detach(), gradients


def _differ(first: Tensor, second: Tensor) -> Tensor:
    """Return which rows differ beyond rounding, bool (n,)."""
    a, b = first.flatten(1), second.flatten(1)
    close = (b - a).abs() <= SAME_BATCH * a.abs().amax(1, keepdim=True)
    return ~(close | (a == b) | (a.isnan() & b.isnan())).all(1)


def _concat(parts: tuple[Sizes, ...]) -> Sizes:
    return Sizes(*map(torch.cat, zip(*parts, strict=True)))
