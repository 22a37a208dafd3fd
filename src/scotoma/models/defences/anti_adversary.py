"""Test-time steps towards the network's own prediction."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.defences.base import Defence


class AntiAdversary(Defence):
    """Moves images by a few gradient steps that confirm the network's own prediction.

    The perturbation decreases the cross-entropy at the predicted class. It is a constant for the
    gradient of the output, as in the authors' code.

    Source: Alfarra, Perez, Thabet, Bibi, Torr and Ghanem 2022, "Combating adversaries with
    anti-adversaries".
    Broken by: Croce, Gowal, Brunner, Shelhamer, Hein and Cemgil 2022, "Evaluating the adversarial
    robustness of adaptive test-time defenses" (examples of the undefended network).

    >>> network = nn.Flatten()
    >>> AntiAdversary(network, size=0.1, steps=1)(torch.tensor([[[[0.4, 0.5]]]])).round(decimals=2)
    tensor([[0.3000, 0.6000]])
    """

    def __init__(self, network: nn.Module, size: float = 0.15, steps: int = 2):
        super().__init__(network)
        self.size = size
        self.steps = steps

    def perturbation(self, images: Tensor) -> Tensor:
        """Return the perturbation (n, c, h, w) of images."""
        images = images.detach()
        moved = torch.zeros_like(images)
        with torch.enable_grad():
            predicted = self.network(images).argmax(1)
            for _ in range(self.steps):
                leaf = moved.clone().requires_grad_()
                loss = F.cross_entropy(self.network(images + leaf), predicted, reduction="sum")
                moved = moved - self.size * torch.autograd.grad(loss, leaf)[0].sign()
        return moved

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images + self.perturbation(images))
