"""The contrast shifts that the blind-spot probe tries."""

from __future__ import annotations

MNIST_SHIFTS = (
    (1.0, 0.0),
    (0.9, 0.0),
    (0.9, 0.05),
    (0.8, 0.0),
    (0.8, 0.1),
    (0.7, 0.0),
    (0.7, 0.15),
)
"""(alpha, beta) on the scale [-0.5, 0.5], from Table 2 of Zhang et al. 2019. Each beta above 0 is
(1 - alpha) / 2, which keeps white at white."""

FASHION_SHIFTS = ((1.0, 0.0), (0.95, 0.0), (0.95, 0.025), (0.9, 0.0), (0.9, 0.05))
"""(alpha, beta) from Table 3 of Zhang et al. 2019."""


def contrast_shifts(data: str) -> tuple[tuple[float, float], ...]:
    """Return the (alpha, beta) to try on a data set; those of MNIST if it has none of its own.

    >>> contrast_shifts("fashion-mnist")[1]
    (0.95, 0.0)
    """
    return FASHION_SHIFTS if data == "fashion-mnist" else MNIST_SHIFTS
