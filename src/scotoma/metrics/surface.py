"""The loss in a plane through an image (Tramer et al. 2018, Figure 1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from scotoma.attacks.core.losses import cross_entropy
from scotoma.attacks.core.oracle import Loss, Oracle
from scotoma.threat import Threat
from scotoma.utils.device import batch_size
from scotoma.utils.random import Randomness

CLOSE = 1 / 16
"""Share of eps that a close view reaches."""
PARALLEL = 1e-3
"""Two unit vectors are parallel if the part of one orthogonal to the other is shorter than this."""
FAINT = 1e-30
"""Scale of the random numbers that decide where a gradient is 0."""


class Surface(NamedTuple):
    """Losses on a square grid."""

    at: Tensor
    """e1 and e2 of the grid, (m,), in units of the threat."""
    losses: Tensor
    """Losses at x + e1 g + e2 g_perp, (n, m, m): image, e1, e2."""


def loss_surface(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    reach: float | None = None,
    steps: int = 20,
    source: nn.Module | None = None,
    random: Randomness | None = None,
    loss: Loss = cross_entropy,
) -> Surface:
    """Return the losses at x + e1 g + e2 g_perp, with the directions of `plane`.

    Points are not clipped to [0, 1]: black and white pixels would fold the plane. They may lie
    outside the ball, up to |e1| + |e2| from the image.

    Args:
        model: in eval mode.
        images: (n, c, h, w) in [0, 1].
        labels: int64 (n,).
        threat: the norm, L-inf or L2.
        reach: e1 and e2 go from -reach to reach; None means eps, a wide view.
        steps: grid lines on either side of the image.
        source: another model, whose gradient gives g_perp; None gives a random direction.
        random: random numbers for g_perp.
        loss: loss to evaluate, whose gradients give the directions.

    Source: Tramer et al. 2018, Figure 1.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> images, labels = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])
    >>> loss_surface(model, images, labels, Threat("linf", 0.1), steps=2).losses.shape
    torch.Size([3, 5, 5])
    """
    oracle, random = Oracle(model, labels), random or Randomness.default(images)
    at = torch.arange(-steps, steps + 1, device=images.device) / steps * (reach or threat.eps)
    grid = torch.cartesian_prod(at, at)
    losses = images.new_empty(len(grid), len(images))
    result = Surface(at, losses.T.unflatten(1, (len(at), len(at))))
    if not len(images):
        return result
    batch = batch_size(images.device, images.shape[1:].numel())
    for rows in torch.arange(len(images), device=images.device).split(batch):
        clean, batch_oracle, stream = images[rows], oracle.select(rows), random.select(rows)
        gradient, other = batch_oracle.value_and_grad(clean, loss).gradient, torch.zeros_like(clean)
        if source:
            other = Oracle(source, batch_oracle.labels).value_and_grad(clean, loss).gradient
        first, second = plane(gradient, other, threat, stream)
        grid_batch = max(1, batch // len(rows))
        for points in torch.arange(len(grid), device=images.device).split(grid_batch):
            e1, e2 = grid[points].T[..., None, None, None, None]
            repeated = oracle.select(rows.repeat(len(points)))
            logits = repeated.logits((clean + e1 * first + e2 * second).flatten(0, 1))
            losses[points[:, None], rows] = loss(logits, repeated.labels).view(len(points), -1)
    return result


def plane(
    gradient: Tensor, other: Tensor, threat: Threat, random: Randomness
) -> tuple[Tensor, Tensor]:
    """Return a unit direction along each gradient and one orthogonal to it, each (n, c, h, w).

    In L-inf both are sign vectors. The first has the signs of `gradient`. The second is the sign
    vector orthogonal to it along which a function with the gradient `other` rises fastest (one
    value is 0 where the number of signs is odd). In L2 the second is the part of `other` orthogonal
    to the first. It is random where `other` is 0, and in L2 also where `other`
    is parallel to `gradient`.

    Args:
        gradient, other: (n, c, h, w), finite.
        threat: the norm, L-inf or L2.
        random: random numbers for what `other` does not determine.
    """
    noise = random.normal(gradient).flatten(1)
    if threat.norm == "linf":
        first, target = gradient.flatten(1).sign(), other.flatten(1)
        second = _half_opposed(first, torch.where(target == 0, FAINT * noise, target))
    else:
        first, target = (
            threat.steepest(each).flatten(1) / threat.eps for each in (gradient, other)
        )
        orthogonal = _rejection(target, first)
        defined = orthogonal.norm(dim=1, keepdim=True) > PARALLEL
        second = torch.where(defined, orthogonal, _rejection(noise, first))
        second = second / second.norm(dim=1, keepdim=True).clamp_min(1e-30)
    return first.view_as(gradient), second.to(gradient).view_as(gradient)


def _half_opposed(signs: Tensor, target: Tensor) -> Tensor:
    """Return the signs orthogonal to `signs` with the largest product with `target`, (n, d).

    They keep the half of `signs` where both agree most, and flip the other half.
    """
    bound = signs != 0
    agreement = (target * signs).masked_fill(~bound, -torch.inf)
    rank = agreement.argsort(dim=1, descending=True, stable=True).argsort(1)
    number = bound.sum(1, keepdim=True)
    agreeing, flipped = rank < number // 2, rank >= number - number // 2
    return torch.where(bound, signs * (agreeing.to(signs) - flipped.to(signs)), target.sign())


def _rejection(vectors: Tensor, unit: Tensor) -> Tensor:
    """Return the part of `vectors` orthogonal to `unit`, float64 (n, d)."""
    a, b = vectors.double(), unit.double()
    return a - (a * b).sum(1, keepdim=True) / b.square().sum(1, keepdim=True).clamp_min(1e-30) * b
