"""Harmless changes of an image. A transform is a small frozen dataclass from images to images in [0, 1]: one file, one line
here a name. `control.Control` makes the random match of any of them."""

from __future__ import annotations

from scotoma.utils.registry import Table

TRANSFORMS = Table(
    "transform",
    {
        "scale-shift": "transforms.scale_shift:ScaleShift",
        "gamma": "transforms.gamma:Gamma",
        "blur": "transforms.blur:Blur",
        "rotate": "transforms.affine:Rotate",
        "translate": "transforms.affine:Translate",
        "texture": "transforms.texture:Texture",
    },
)
