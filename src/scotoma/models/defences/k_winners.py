"""Activations that keep only the largest values."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.defences.base import ACTIVATIONS, Fitted, replace_layers, train


class Winners(nn.Module):
    """Keeps the largest `ratio` of an image's values in a layer, and sets the others to 0."""

    def __init__(self, ratio: float):
        super().__init__()
        self.ratio = ratio

    def forward(self, features: Tensor) -> Tensor:
        flat = features.flatten(1)
        count = max(1, int(self.ratio * flat.shape[1]))
        least = flat.topk(count, dim=1, sorted=False).values.amin(1, keepdim=True)
        return (flat * (flat >= least).to(flat.dtype)).view_as(features)


class KWinners(Fitted):
    """Replaces activation functions by k-winners-take-all, and trains the network with them.

    Source: Xiao, Zhong and Zheng 2020, "Enhancing adversarial defense by k-winners-take-all".
    Broken by: Tramer, Carlini, Brendel and Madry 2020, "On adaptive attacks to adversarial example
    defenses" (gradients from differences, averaged over a region).

    >>> import torch
    >>> Winners(0.5)(torch.tensor([[3.0, -1.0, 2.0, -5.0]])).tolist()
    [[3.0, -0.0, 2.0, -0.0]]
    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> KWinners(network)(torch.rand(5, 1, 2, 2)).shape
    torch.Size([5, 2])
    """

    def __init__(self, network: nn.Module, ratio: float = 0.1, steps: int = 100):
        super().__init__(network)
        self.steps = steps
        replace_layers(network, ACTIVATIONS, lambda _: Winners(ratio), "activation layer")

    def fit(self, images: Tensor, labels: Tensor) -> None:
        """Train the network with its new activations by cross-entropy."""
        train(self.network, images, labels, F.cross_entropy, steps=self.steps, rate=5e-4)
