"""Noise inside the network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scotoma.models.defences.base import Defence, replace_layers


class Noise(nn.Module):
    """Adds Gaussian noise of standard deviation `sigma`."""

    def __init__(self, sigma: float):
        super().__init__()
        self.sigma = sigma

    def forward(self, features: Tensor) -> Tensor:
        return features + self.sigma * torch.randn_like(features)


class LayerNoise(Defence):
    """Adds Gaussian noise to the input of every convolution and linear layer (RSE).

    The authors train with the noise and average the probabilities of several draws; here a trained
    network gets it, and a prediction is one draw.

    Source: Liu, Cheng, Zhang and Hsieh 2018, "Towards robust neural networks via random
    self-ensemble".
    Broken by: the expectation over transformation of Athalye, Carlini and Wagner 2018, "Obfuscated
    gradients give a false sense of security", section 4.2, applies; we know of no paper on RSE.

    >>> layer = LayerNoise(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    >>> images = torch.rand(3, 1, 2, 2)
    >>> torch.equal(layer(images), layer(images))
    False
    """

    def __init__(self, network: nn.Module, sigma: float = 0.1):
        super().__init__(network)
        replace_layers(
            network,
            (nn.Conv2d, nn.Linear),
            lambda layer: nn.Sequential(Noise(sigma), layer),
            "convolution",
        )
