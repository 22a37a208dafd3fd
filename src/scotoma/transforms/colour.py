"""Colour: hue, saturation and brightness."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from scotoma.transforms.strength import Strength

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey value (ITU-R BT.601)."""


def _grey(images: Tensor) -> Tensor:
    return (images * images.new_tensor(GREY)[:, None, None]).sum(1, keepdim=True)


@dataclass(frozen=True)
class Saturation(Strength):
    """Colours pulled towards grey, or away from it; grey values stay as they are.

    Args:
        factor: of the difference from grey; 0 leaves a grey image, 1 changes nothing.

    >>> import torch
    >>> Saturation(0.0)(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)).flatten().tolist()[0]
    0.29899999499320984
    """

    factor: float
    strengths: ClassVar = (0.0, 0.5, 1.5, 2.0)
    colour: ClassVar = True

    def __call__(self, images: Tensor) -> Tensor:
        grey = _grey(images)
        return (grey + self.factor * (images - grey)).clamp_(0, 1)

    def __str__(self) -> str:
        return f"saturation {self.factor:g}"

    @property
    def point(self) -> tuple[float, ...]:
        """Where `at` gives this transform."""
        return (self.factor - 1,)

    @classmethod
    def at(cls, size: float) -> Saturation:
        """Return the transform at a point of [-1, 1]: from grey to twice the saturation."""
        return cls(round(1 + size, 4))


@dataclass(frozen=True)
class Hue(Strength):
    """All hues turned by one angle about the grey axis, at constant grey value.

    Args:
        degrees: angle; 0 changes nothing.

    >>> import torch
    >>> turned = Hue(120.0)(torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1))
    >>> turned.argmax(1).item()
    1
    """

    degrees: float
    unit: ClassVar = 45
    digits: ClassVar = 3
    strengths: ClassVar = (-30, -15, 15, 30)
    colour: ClassVar = True

    def __call__(self, images: Tensor) -> Tensor:
        cosine, sine = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        other, root = (1 - cosine) / 3, sine / math.sqrt(3)
        near, ahead, back = cosine + other, other + root, other - root
        turn = images.new_tensor([[near, back, ahead], [ahead, near, back], [back, ahead, near]])
        # a sum of channels, since a matrix product rounds differently in other batch sizes
        red, green, blue = (turn[:, k, None, None] * images[:, k : k + 1] for k in range(3))
        turned = red + green + blue
        return (turned + _grey(images) - _grey(turned)).clamp_(0, 1)

    def __str__(self) -> str:
        return f"hue turned by {self.degrees:g} degrees"


@dataclass(frozen=True)
class Brightness(Strength):
    """Brightness changed: one amount is added to every value, clipped to [0, 1].

    Args:
        amount: 0 changes nothing.

    >>> import torch
    >>> Brightness(0.25)(torch.tensor([[[[0.0, 0.5]]]])).flatten().tolist()
    [0.25, 0.75]
    """

    amount: float
    unit: ClassVar = 0.25
    strengths: ClassVar = (-0.2, -0.1, 0.1, 0.2)
    colour: ClassVar = True

    def __call__(self, images: Tensor) -> Tensor:
        return (images + self.amount).clamp_(0, 1)

    def __str__(self) -> str:
        return f"brightness {self.amount:+g}"
