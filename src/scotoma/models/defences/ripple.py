"""A ripple on the pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from scotoma.models.defences.base import Defence


class Ripple(Defence):
    """Adds a fast sine of each pixel to it: gradients are exact, large, and useless at a step away.

    x becomes x + height * sin(2 pi x / length). The slope is up to 1 + 2 pi height / length (22)
    and changes its sign within a fraction of an eps.

    Source: shattered gradients in the sense of Athalye, Carlini and Wagner 2018, "Obfuscated
    gradients give a false sense of security", in one line; nobody proposed it.
    Broken by: gradients averaged over a neighbourhood, as Tramer, Carlini, Brendel and Madry 2020,
    "On adaptive attacks to adversarial example defenses", use against such defences.

    >>> images = torch.rand(1, 1, 2, 2)
    >>> bool((Ripple(nn.Identity())(images) - images).abs().max() <= 0.02)
    True
    """

    def __init__(self, network: nn.Module, height: float = 0.02, length: float = 0.006):
        super().__init__(network)
        self.height = height
        self.length = length

    def forward(self, images: Tensor) -> Tensor:
        wave = torch.sin(2 * math.pi * images / self.length)
        return self.network(images + self.height * wave)
