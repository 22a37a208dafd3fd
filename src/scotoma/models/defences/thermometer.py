"""Pixels in the thermometer code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scotoma.models.defences.base import Defence


class Thermometer(Defence):
    """Encodes pixels in the thermometer code and gives the network the share of lit levels.

    The code of a pixel x is 1 at each level j with x > j / levels. The authors' network reads the
    code. Here its mean replaces the pixel, so that any network can follow: this equals their first
    layer if its weights are the same for all levels.

    Source: Buckman, Roy, Raffel and Goodfellow 2018, "Thermometer encoding: one hot way to resist
    adversarial examples".
    Broken by: Athalye, Carlini and Wagner 2018, "Obfuscated gradients give a false sense of
    security" (BPDA).

    >>> layer = Thermometer(nn.Identity(), levels=4)
    >>> layer(torch.tensor([[[[0.0, 0.3, 1.0]]]])).tolist()
    [[[[0.0, 0.5, 1.0]]]]
    """

    def __init__(self, network: nn.Module, levels: int = 16):
        super().__init__(network)
        self.levels = levels

    def encode(self, images: Tensor) -> Tensor:
        """Return the code (n, c, levels, h, w) of images (n, c, h, w), 0 or 1."""
        edges = torch.arange(self.levels, device=images.device) / self.levels
        return (images[:, :, None] > edges[:, None, None]).to(images.dtype)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.encode(images).mean(2))
