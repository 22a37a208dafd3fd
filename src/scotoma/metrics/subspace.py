"""The number of orthogonal adversarial directions of an image: the GAAS of Tramer et al. (2018)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.attacks.core.losses import cross_entropy
from scotoma.attacks.core.oracle import Loss, Oracle
from scotoma.metrics.hadamard import regular_hadamard
from scotoma.threat import Threat
from scotoma.utils.device import batch_size
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness
from scotoma.utils.stats import Rate, rate

ORDERS = (4, 16, 36, 64, 100)
"""Numbers of directions to try, up to the paper's 100."""


def orders_within(values: int) -> tuple[int, ...]:
    """Return those of `ORDERS` that images with so many values can have."""
    return tuple(order for order in ORDERS if order <= values)


def directions(
    gradient: Tensor, threat: Threat, order: int, random: Randomness, at_once: int = 1
) -> Iterator[Tensor]:
    """Yield `order` orthogonal perturbations of size eps for each image, (p, n, c, h, w).

    The d values of an image are split at random into blocks of equal size. Entry S_ij of a regular
    Hadamard matrix says whether perturbation i follows the gradient g in block j or opposes it.
    Values with a gradient of 0 take random signs.

    In L-inf every block changes by eps. The d mod `order` values of smallest gradient stay
    unchanged, so that orthogonality is exact; g^T r is on average eps / sqrt(order) times the L1
    norm of g on the blocks. In L2 all perturbations are rotated together until their mean points
    along g: each then has g^T r = eps / sqrt(order) ||g||_2, and no other `order` orthogonal
    directions all have more.

    Args:
        gradient: (n, c, h, w), finite.
        threat: the ball, L-inf or L2.
        order: see `regular_hadamard`; at most c h w.
        random: random numbers for the blocks and the signs.
        at_once: perturbations p of each image in one tensor.

    Raises:
        InputError: images have fewer values than `order`, or there is no matrix of that order.
    """
    signs = regular_hadamard(order).to(gradient.device)
    flat = gradient.flatten(1)
    size = flat.shape[1] // order
    if not size:
        raise InputError(
            f"{order} orthogonal directions need images of as many values, "
            f"these have {flat.shape[1]}"
        )
    random_signs = (random.uniform(flat) < 0.5).to(flat).mul_(2).sub_(1)
    sign = torch.where(flat == 0, random_signs, flat.sign())
    omitted = flat.abs().sort(dim=1, stable=True).indices[:, : flat.shape[1] - size * order]
    rank = random.uniform(flat).scatter_(1, omitted, 1.0).argsort(dim=1, stable=True).argsort(1)
    block = (rank // size).clamp_max(order)
    signs = F.pad(signs, (0, 1))  # the block of omitted values
    if threat.norm == "linf":
        for rows in signs.split(at_once):
            yield (threat.eps * rows[:, block] * sign).unflatten(2, gradient.shape[1:])
        return
    length = (size * order) ** -0.5
    centre = length * sign.masked_fill(block == order, 0)
    axis = centre + threat.steepest(gradient).flatten(1) / threat.eps
    # The sum is never small: the signs of the centre are the gradient's.
    scale = 2 / axis.square().sum(1, keepdim=True)
    for rows in signs.split(at_once):
        basis = length * rows[:, block] * sign
        # half a turn about the axis
        rotated = scale * (basis * axis).sum(2, keepdim=True) * axis - basis
        yield (threat.eps * rotated).unflatten(2, gradient.shape[1:])


def adversarial_directions(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    orders: Sequence[int] = ORDERS,
    random: Randomness | None = None,
    loss: Loss = cross_entropy,
) -> Tensor:
    """Count the orthogonal directions in which the model is fooled at once, for each order.

    Perturbed images are clipped to [0, 1], which breaks orthogonality and shortens what leaves that
    range. The count is meaningful only for images that the model classifies correctly. Each
    direction costs a forward pass; the gradient is computed once.

    Args:
        model: in eval mode.
        images: (n, c, h, w) in [0, 1].
        labels: int64 (n,).
        threat: the ball, L-inf or L2.
        orders: numbers of directions, each tried separately; see `orders_within`.
        random: random numbers for blocks and signs.
        loss: loss whose gradient the directions are aligned with.

    Returns:
        int64 (n, len(orders)), how many of the directions fool the model.

    Raises:
        InputError: images have too few values for an order, or there is no such order.

    Source: Tramer et al. 2018, gradient aligned adversarial subspace (GAAS).

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    >>> _ = model[1].weight.data.copy_(torch.tensor([[1.0] * 4, [-1.0] * 4]))
    >>> image, threat = torch.full((1, 1, 2, 2), 0.1), Threat("linf", 0.5)
    >>> adversarial_directions(model, image, torch.tensor([1]), threat, orders=(4,)).tolist()
    [[4]]
    """
    oracle, random = Oracle(model, labels), random or Randomness.default(images)
    batch = batch_size(images.device, images.shape[1:].numel())
    counts = torch.zeros(len(images), len(orders), dtype=torch.int64, device=images.device)
    if not len(images):
        return counts
    for rows in torch.arange(len(images), device=images.device).split(batch):
        clean = images[rows]
        gradient = oracle.select(rows).value_and_grad(clean, loss).gradient
        for column, order in enumerate(orders):
            stream = random.select(rows).fork(order)
            for steps in directions(gradient, threat, order, stream, max(1, batch // len(rows))):
                perturbed = (clean + steps).clamp_(0, 1).flatten(0, 1)
                fooled = oracle.select(rows.repeat(len(steps))).fooled(perturbed)
                counts[rows, column] += fooled.view(len(steps), -1).sum(0)
    return counts


def survival(counts: Tensor, most: int) -> list[Rate]:
    """Return the shares of images with at least 1, 2 ... `most` directions, with intervals.

    Args:
        counts: int64 (n, orders), from `adversarial_directions`; the largest of an image counts.
        most: the last number, such as the largest order.
    """
    largest = counts.amax(1).cpu().numpy()
    return [rate(largest >= k) for k in range(1, most + 1)]
