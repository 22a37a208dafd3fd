"""The strengths at which the blind-spot map tries each family of changes but scale-shift, which is a plane."""

from __future__ import annotations

from scotoma.execution.run import Transform
from scotoma.transforms.affine import Rotate, Translate
from scotoma.transforms.blur import Blur
from scotoma.transforms.gamma import Gamma
from scotoma.transforms.texture import Texture

WAYS = ((1, 0), (-1, 0), (0, 1), (0, -1))

SWEEPS: dict[str, tuple[Transform, ...]] = {
    "gamma": tuple(Gamma(exponent) for exponent in (0.4, 0.6, 0.8, 1.25, 1.75, 2.5)),
    "blur": tuple(Blur(sigma) for sigma in (0.4, 0.6, 0.8, 1.0, 1.25, 1.5)),
    "rotate": tuple(Rotate(degrees) for degrees in (-15, -10, -5, 5, 10, 15)),
    "translate": tuple(Translate(pixels * right, pixels * down) for pixels in (0.5, 1.0, 2.0) for right, down in WAYS),
    "texture": tuple(Texture(strength) for strength in (0.05, 0.1, 0.15, 0.2, 0.3)),
}
"""Family, a name of `TRANSFORMS`, to its transforms. Only what costs at most a point of accuracy counts."""
