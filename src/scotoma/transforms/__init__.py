"""Harmless changes of an image: one file a transform, one line here a name.

A transform is a small frozen dataclass from images to images in [0, 1]. `Control` makes a random
change of equal size for any of them.

>>> import scotoma, torch
>>> scotoma.transforms.ScaleShift(alpha=0.5, beta=0.25)(torch.zeros(1, 1, 1, 2)).tolist()
[[[[0.5, 0.5]]]]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scotoma.transforms.composition import Composition as Composition
from scotoma.transforms.control import Control as Control
from scotoma.utils.registry import Table

if TYPE_CHECKING:
    from scotoma.transforms.affine import Rotate as Rotate
    from scotoma.transforms.affine import Translate as Translate
    from scotoma.transforms.blur import Blur as Blur
    from scotoma.transforms.colour import Brightness as Brightness
    from scotoma.transforms.colour import Hue as Hue
    from scotoma.transforms.colour import Saturation as Saturation
    from scotoma.transforms.gamma import Gamma as Gamma
    from scotoma.transforms.jpeg import JpegQuality as JpegQuality
    from scotoma.transforms.scale_shift import ScaleShift as ScaleShift
    from scotoma.transforms.texture import Texture as Texture
    from scotoma.transforms.tint import Tint as Tint

TRANSFORMS = Table(
    "transform",
    {
        "scale-shift": "transforms.scale_shift:ScaleShift",
        "gamma": "transforms.gamma:Gamma",
        "blur": "transforms.blur:Blur",
        "rotate": "transforms.affine:Rotate",
        "translate": "transforms.affine:Translate",
        "texture": "transforms.texture:Texture",
        "saturation": "transforms.colour:Saturation",
        "hue": "transforms.colour:Hue",
        "brightness": "transforms.colour:Brightness",
        "jpeg": "transforms.jpeg:JpegQuality",
        "tint": "transforms.tint:Tint",
    },
)


def __getattr__(name: str) -> Any:
    return TRANSFORMS.attribute(name)


def __dir__() -> list[str]:
    return sorted(["TRANSFORMS", "Composition", "Control", *TRANSFORMS.attributes])
