"""Regular Hadamard matrices: orthogonal rows of signs that all have the same sum."""

from __future__ import annotations

import torch
from torch import Tensor

from scotoma.utils.errors import InputError

EXPONENTS = {1: (), 3: (0,), 5: (0, 1, 2, 5, 8)}
"""Exponents of the generator g of GF(u^2), modulo (u^2 - 1) / 2, that make the first of four
supplementary difference sets, to which u = 3 adds 0. The others are its products with g^s, g^2s and
g^3s, s = (u^2 - 1) / 8. An exhaustive search gave the set of u = 5."""

SQUARE = {1: 0, 3: 1, 5: 3}
"""Values of g^2 - g."""


def regular_hadamard(order: int) -> Tensor:
    """Return a matrix S of signs with S S^T = order I whose rows and columns sum to sqrt(order).

    Orders 4, 36 and 100 are Williamson's array of four symmetric matrices that commute (Williamson
    1944). The Kronecker product with order 4 is regular again, which gives 16, 64, 144 and so on.

    Returns:
        float32 (order, order).

    Raises:
        InputError: another order.
    """
    for u in EXPONENTS:
        if order == 4 * u * u:
            return _williamson(u)
    if order < 16 or order % 4:
        raise InputError(
            f"no regular Hadamard matrix of order {order} is made here; take 4, 16, 36, 64, 100, "
            "or 4 times one"
        )
    return torch.kron(_williamson(1), regular_hadamard(order // 4))


def _williamson(u: int) -> Tensor:
    """Return order 4 u^2: the squares of a, b, c, d add up to 4 u^2 I, and their rows sum to u."""
    a, b, c, d = (_differences(u, (u * u - 1) // 8 * number) for number in range(4))
    rows = [(-a, b, c, d), (b, a, -d, c), (c, d, a, -b), (d, -c, b, a)]
    return torch.cat([torch.cat(row, 1) for row in rows])


def _differences(u: int, shift: int) -> Tensor:
    """Return -1 where row minus column, in GF(u^2), lies in the first set times g^shift, else 1."""
    signs = torch.ones(u, u)
    signs[0, 0] = -1 if u == 3 else 1
    x, y = 1, 0  # the element x + y g, a power of g
    for exponent in range(u * u - 1):
        if (exponent - shift) % ((u * u - 1) // 2) in EXPONENTS[u]:
            signs[x, y] = -1
        x, y = SQUARE[u] * y % u, (x + y) % u
    difference = (torch.arange(u)[:, None] - torch.arange(u)) % u
    return signs[difference[:, None, :, None], difference[None, :, None, :]].reshape(u * u, u * u)
