"""In how many orthogonal directions at once an image is adversarial: the GAAS of Tramer et al. (2018)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.attacks.core.losses import cross_entropy
from scotoma.attacks.core.oracle import Loss, Oracle
from scotoma.claim import Threat
from scotoma.metrics.hadamard import regular_hadamard
from scotoma.utils.device import batch_size
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness
from scotoma.utils.stats import Rate, rate

ORDERS = (4, 16, 36, 64, 100)
"""Numbers of directions that are tried, up to the paper's 100."""


def orders_within(values: int) -> tuple[int, ...]:
    """Those of `ORDERS` for which images of so many values have room."""
    return tuple(order for order in ORDERS if order <= values)


def directions(
    gradient: Tensor, threat: Threat, order: int, random: Randomness, at_once: int = 1
) -> Iterator[Tensor]:
    """`order` orthogonal perturbations of size eps for each image, `at_once` at a time, (p, n, c, h, w).

    The d values of an image are split at random into blocks of the same size, and perturbation i goes with the gradient g or
    against it in block j as S_ij of a regular Hadamard matrix says. Values whose gradient is 0 take signs at random.

    In L-inf every block moves by eps. The d mod `order` values of smallest gradient stay still, so that orthogonality is exact;
    g^T r is on average eps / sqrt(order) times the L1 norm of g on the blocks. In L2 all are turned together until their mean
    points along g: each then has g^T r = eps / sqrt(order) ||g||_2, and no other `order` orthogonal directions all have more.

    Args:
        gradient: (n, c, h, w), finite.
        threat: the ball, L-inf or L2.
        order: see `regular_hadamard`; at most c h w.
        random: of the blocks and of the signs.
        at_once: how many perturbations of each image are written out together.

    Raises:
        InputError: images have fewer values than `order`, or there is no matrix of that order.
    """
    signs = regular_hadamard(order).to(gradient.device)
    flat = gradient.flatten(1)
    size = flat.shape[1] // order
    if not size:
        raise InputError(
            f"{order} orthogonal directions need images of as many values, these have {flat.shape[1]}"
        )
    sign = torch.where(
        flat == 0, (random.uniform(flat) < 0.5).to(flat).mul_(2).sub_(1), flat.sign()
    )
    left_out = flat.abs().sort(dim=1, stable=True).indices[:, : flat.shape[1] - size * order]
    place = random.uniform(flat).scatter_(1, left_out, 1.0).argsort(dim=1, stable=True).argsort(1)
    block = (place // size).clamp_max(order)
    signs = F.pad(signs, (0, 1))  # the block of those left out
    if threat.norm == "linf":
        for rows in signs.split(at_once):
            yield (threat.eps * rows[:, block] * sign).unflatten(2, gradient.shape[1:])
        return
    length = (size * order) ** -0.5
    centre = length * sign.masked_fill(block == order, 0)
    axis = centre + threat.steepest(gradient).flatten(1) / threat.eps
    scale = 2 / axis.square().sum(
        1, keepdim=True
    )  # never small: the signs of the centre are the gradient's
    for rows in signs.split(at_once):
        basis = length * rows[:, block] * sign
        turned = (
            scale * (basis * axis).sum(2, keepdim=True) * axis - basis
        )  # half a turn about the axis
        yield (threat.eps * turned).unflatten(2, gradient.shape[1:])


def adversarial_directions(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    orders: Sequence[int] = ORDERS,
    random: Randomness | None = None,
    loss: Loss = cross_entropy,
) -> Tensor:
    """How many of the perturbations of `directions` fool the model, for each order; int64 (n, len(orders)).

    Perturbed images are clipped to [0, 1], which breaks orthogonality and shortens what sticks out. It means something only for
    images that the model classifies correctly. It costs a forward pass for each of the directions and one gradient.

    Args:
        model: in eval mode.
        images: (n, c, h, w) in [0, 1].
        labels: int64 (n,).
        threat: the ball, L-inf or L2.
        orders: numbers of directions, each tried for itself; see `orders_within`.
        random: of blocks and signs.
        loss: whose gradient the directions are aligned with.

    Raises:
        InputError: an order that `directions` does not take.
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
            own = random.select(rows).fork(order)
            for moves in directions(gradient, threat, order, own, max(1, batch // len(rows))):
                moved = (clean + moves).clamp_(0, 1).flatten(0, 1)
                fooled = oracle.select(rows.repeat(len(moves))).fooled(moved)
                counts[rows, column] += fooled.view(len(moves), -1).sum(0)
    return counts


def survival(counts: Tensor, most: int) -> list[Rate]:
    """The shares of images with at least 1, 2 ... `most` orthogonal adversarial directions, each with its interval.

    Args:
        counts: int64 (n, orders), as from `adversarial_directions`; of an image the largest counts.
        most: the last number, such as the largest order.
    """
    largest = counts.amax(1).cpu().numpy()
    return [rate(largest >= k) for k in range(1, most + 1)]
