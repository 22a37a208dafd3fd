"""Zhang et al. 2019, "The limitations of adversarial training and the blind-spot attack" (ICLR 2019)."""

from __future__ import annotations

MNIST_MOVES = ((1.0, 0.0), (0.9, 0.0), (0.9, 0.05), (0.8, 0.0), (0.8, 0.1), (0.7, 0.0), (0.7, 0.15))
"""(alpha, beta) of Table 2, on the paper's [-0.5, 0.5]; every beta > 0 is (1 - alpha) / 2, which keeps white at white."""

FASHION_MOVES = ((1.0, 0.0), (0.95, 0.0), (0.95, 0.025), (0.9, 0.0), (0.9, 0.05))
"""(alpha, beta) of Table 3."""


def moves(data: str) -> tuple[tuple[float, float], ...]:
    """The paper's grid for a data set, MNIST's where it has none."""
    return FASHION_MOVES if data == "fashion-mnist" else MNIST_MOVES
