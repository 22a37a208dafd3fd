"""Activations dropped at random."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scotoma.models.defences.base import ACTIVATIONS, Defence, replace_layers


class Pruning(nn.Module):
    """Keeps activations at random, large ones more often, and scales them by 1 / probability.

    An activation of share p of its image's absolute sum is kept if it is among `ratio` * size draws
    with replacement, which has the probability q = 1 - (1 - p)^draws. Each activation is drawn on
    its own with q, which saves the multinomial draws.
    """

    def __init__(self, ratio: float):
        super().__init__()
        self.ratio = ratio

    def forward(self, features: Tensor) -> Tensor:
        flat = features.flatten(1)
        share = flat.abs() / flat.abs().sum(1, keepdim=True).clamp_min(1e-12)
        kept = 1 - (1 - share) ** (self.ratio * flat.shape[1])
        mask = torch.rand_like(flat) < kept
        return torch.where(mask, flat / kept.clamp_min(1e-12), 0.0).view_as(features)


class ActivationPruning(Defence):
    """Drops activations at random, small ones more often (stochastic activation pruning).

    Source: Dhillon, Azizzadenesheli, Lipton, Bernstein, Kossaifi, Khanna and Anandkumar 2018,
    "Stochastic activation pruning for robust adversarial defense".
    Broken by: Athalye, Carlini and Wagner 2018, "Obfuscated gradients give a false sense of
    security" (gradients averaged over draws).

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 2))
    >>> layer, images = ActivationPruning(network), torch.rand(3, 1, 2, 2)
    >>> torch.equal(layer(images), layer(images))
    False
    """

    def __init__(self, network: nn.Module, ratio: float = 1.0):
        super().__init__(network)
        replace_layers(
            network,
            ACTIVATIONS,
            lambda layer: nn.Sequential(layer, Pruning(ratio)),
            "activation layer",
        )
