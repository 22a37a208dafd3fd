"""Noise added to the images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scotoma.models.defences.base import Defence


class InputNoise(Defence):
    """Adds Gaussian noise to the images, one draw a prediction.

    Randomised smoothing takes a majority over many draws and certifies a radius for it; a single
    draw has no certificate.

    Source: the noise of Cohen, Rosenfeld and Kolter 2019, "Certified adversarial robustness via
    randomized smoothing", without its vote.
    Broken by: the expectation over transformation of Athalye, Carlini and Wagner 2018, "Obfuscated
    gradients give a false sense of security", section 4.2.

    >>> images = torch.zeros(1, 1, 2, 2)
    >>> bool(InputNoise(nn.Identity())(images).ne(0).all())
    True
    """

    def __init__(self, network: nn.Module, sigma: float = 0.1):
        super().__init__(network)
        self.sigma = sigma

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images + self.sigma * torch.randn_like(images))
