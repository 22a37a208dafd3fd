"""Regular Hadamard matrices have what defines them."""

from __future__ import annotations

import math

import pytest
import torch

from scotoma.metrics.hadamard import regular_hadamard
from scotoma.metrics.subspace import ORDERS
from scotoma.utils.errors import InputError


@pytest.mark.parametrize("order", [*ORDERS, 144, 256, 400])
def test_rows_are_orthogonal_signs_of_equal_sum(order: int):
    matrix = regular_hadamard(order)
    assert matrix.dtype == torch.float32
    assert matrix.shape == (order, order)
    assert (matrix.abs() == 1).all()
    assert torch.equal(matrix @ matrix.T, order * torch.eye(order))
    sums = torch.full((order,), math.sqrt(order))
    assert torch.equal(matrix.sum(1), sums)
    assert torch.equal(matrix.sum(0), sums)


@pytest.mark.parametrize("order", [-4, 0, 1, 2, 8, 12, 32, 99, 196])
def test_other_orders_are_refused(order: int):
    with pytest.raises(InputError, match="order"):
        regular_hadamard(order)
