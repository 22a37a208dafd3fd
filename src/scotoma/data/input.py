"""What a model's own configuration says about the images that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
"""Resampling filters, by the names that Pillow gives them."""


@dataclass(frozen=True)
class InputSpec:
    """How an image becomes the input of a model, before its values are normalised.

    Args:
        size: height and width in pixels that the network takes.
        resize: the length of the shorter side after resizing, or height and width; None means that
            images are not resized.
        crop: height and width of the centre crop after resizing; None means no crop.
        interpolation: filter of the resizing.

    >>> str(InputSpec((224, 224), resize=256, crop=(224, 224), interpolation="bicubic"))
    'shorter side to 256 (bicubic), centre crop 224x224'
    """

    size: tuple[int, int]
    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"

    def __str__(self) -> str:
        steps = []
        if self.resize is not None:
            if isinstance(self.resize, tuple):
                goal = f"resized to {self.resize[0]}x{self.resize[1]}"
            else:
                goal = f"shorter side to {self.resize}"
            steps.append(f"{goal} ({self.interpolation})")
        if self.crop is not None:
            steps.append(f"centre crop {self.crop[0]}x{self.crop[1]}")
        return ", ".join(steps) or f"{self.size[0]}x{self.size[1]} as it is"
