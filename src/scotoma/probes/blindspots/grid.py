"""What the blind-spot probe tries: contrast shifts, and tints of photographs."""

from __future__ import annotations

from collections.abc import Sequence

from scotoma.transforms.tint import Tint

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

COLOUR_SHIFTS = (*FASHION_SHIFTS, (0.8, 0.0), (0.8, 0.1))
"""(alpha, beta) for small images in colour: 0.9 already costs a network of CIFAR-10 more than a
point of accuracy."""

PHOTOGRAPH = 64
"""Pixels of the shorter side above which images of three channels are photographs, whose colour
depends on the light."""
TINTS = tuple(
    Tint(**{channel: amount}) for channel in ("red", "green", "blue") for amount in (-0.1, 0.1)
)
"""A tenth of the range less or more in one channel."""


def tints(shape: Sequence[int]) -> tuple[Tint, ...]:
    """Return the tints to try on images of a shape (c, h, w); none but for photographs.

    >>> len(tints((3, 224, 224))), tints((3, 32, 32))
    (6, ())
    """
    channels, *sides = shape
    return TINTS if channels == 3 and min(sides) > PHOTOGRAPH else ()


def contrast_shifts(data: str, shape: Sequence[int] = (1,)) -> tuple[tuple[float, float], ...]:
    """Return the (alpha, beta) to try on a data set of images of a shape (c, h, w).

    They are those of MNIST for all but Fashion-MNIST and small images in colour.

    >>> contrast_shifts("fashion-mnist")[1], contrast_shifts("cifar-10", (3, 32, 32))[-1]
    ((0.95, 0.0), (0.8, 0.1))
    """
    if data == "fashion-mnist":
        return FASHION_SHIFTS
    channels, *sides = shape
    return COLOUR_SHIFTS if channels == 3 and min(sides) <= PHOTOGRAPH else MNIST_SHIFTS
