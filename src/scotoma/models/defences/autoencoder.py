"""Images rebuilt by a denoising autoencoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.defences.base import Fitted, train

NOISE = 0.1
"""Deviation of the noise that the autoencoder learns to remove, as in MagNet for MNIST."""


class Denoiser(nn.Module):
    """Three convolutions that rebuild images, each channel on its own.

    >>> Denoiser()(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(self, width: int = 16):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ELU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ELU(),
            nn.Conv2d(width, 1, 3, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        n, c, h, w = images.shape
        return self.layers(images.reshape(n * c, 1, h, w)).sigmoid().view(n, c, h, w)

    def fit(self, images: Tensor, steps: int) -> None:
        """Learn to rebuild images (n, c, h, w) from noisy ones."""
        noisy = (images + NOISE * torch.randn_like(images)).clamp(0, 1)
        train(self, noisy, images, F.mse_loss, steps=steps, rate=1e-2)


class Autoencoder(Fitted):
    """Rebuilds images by an autoencoder that was trained to remove noise (MagNet's reformer).

    Source: Meng and Chen 2017, "MagNet: a two-pronged defense against adversarial examples".
    Broken by: Carlini and Wagner 2017, "MagNet and 'Efficient defenses against adversarial attacks'
    are not robust to adversarial examples".

    >>> Autoencoder(nn.Flatten())(torch.rand(2, 1, 4, 4)).shape
    torch.Size([2, 16])
    """

    def __init__(self, network: nn.Module, steps: int = 100):
        super().__init__(network)
        self.denoiser = Denoiser()
        self.steps = steps

    def fit(self, images: Tensor, labels: Tensor) -> None:
        """Train the autoencoder; the network stays."""
        self.denoiser.fit(images, self.steps)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.denoiser(images))
