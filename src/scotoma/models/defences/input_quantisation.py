"""Pixels rounded to few bits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scotoma.models.defences.base import Defence


class InputQuantisation(Defence):
    """Rounds pixels to `bits` bits before the network (feature squeezing).

    Source: Xu, Evans and Qi 2018, "Feature squeezing: detecting adversarial examples in deep neural
    networks".
    Broken by: He, Wei, Chen, Carlini and Song 2017, "Adversarial example defenses: ensembles of
    weak defenses are not strong"; Athalye, Carlini and Wagner 2018, "Obfuscated gradients give a
    false sense of security" (straight-through gradients).

    >>> layer = InputQuantisation(nn.Identity(), bits=1)
    >>> layer(torch.tensor([0.1, 0.4, 0.6])).tolist()
    [0.0, 0.0, 1.0]
    """

    def __init__(self, network: nn.Module, bits: int = 3):
        super().__init__(network)
        self.bits = bits

    def forward(self, images: Tensor) -> Tensor:
        levels = 2**self.bits - 1
        return self.network(torch.round(images * levels) / levels)
