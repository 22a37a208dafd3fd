"""The changes of the images that the blind-spot probe and map try: contrast shifts, and the strengths of each other family."""

from __future__ import annotations

from scotoma.execution.run import Transform
from scotoma.transforms.affine import Rotate, Translate
from scotoma.transforms.blur import Blur
from scotoma.transforms.gamma import Gamma
from scotoma.transforms.texture import Texture

MNIST_SHIFTS = (
    (1.0, 0.0),
    (0.9, 0.0),
    (0.9, 0.05),
    (0.8, 0.0),
    (0.8, 0.1),
    (0.7, 0.0),
    (0.7, 0.15),
)
"""(alpha, beta) on the scale [-0.5, 0.5], as in Table 2 of Zhang et al. 2019; every beta above 0 is (1 - alpha) / 2, which keeps
white at white."""

FASHION_SHIFTS = ((1.0, 0.0), (0.95, 0.0), (0.95, 0.025), (0.9, 0.0), (0.9, 0.05))
"""(alpha, beta) of Table 3 of Zhang et al. 2019."""


def contrast_shifts(data: str) -> tuple[tuple[float, float], ...]:
    """The (alpha, beta) to try on a data set; those of MNIST where it has none of its own."""
    return FASHION_SHIFTS if data == "fashion-mnist" else MNIST_SHIFTS


WAYS = ((1, 0), (-1, 0), (0, 1), (0, -1))

SWEEPS: dict[str, tuple[Transform, ...]] = {
    "gamma": tuple(Gamma(exponent) for exponent in (0.4, 0.6, 0.8, 1.25, 1.75, 2.5)),
    "blur": tuple(Blur(sigma) for sigma in (0.4, 0.6, 0.8, 1.0, 1.25, 1.5)),
    "rotate": tuple(Rotate(degrees) for degrees in (-15, -10, -5, 5, 10, 15)),
    "translate": tuple(
        Translate(pixels * right, pixels * down)
        for pixels in (0.5, 1.0, 2.0)
        for right, down in WAYS
    ),
    "texture": tuple(Texture(strength) for strength in (0.05, 0.1, 0.15, 0.2, 0.3)),
}
"""Family, a name of `TRANSFORMS`, to its transforms. Only what costs at most a point of accuracy counts."""
