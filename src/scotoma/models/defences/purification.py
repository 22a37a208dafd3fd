"""Test-time steps towards images that an autoencoder rebuilds well."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scotoma.models.defences.autoencoder import Denoiser
from scotoma.models.defences.base import Fitted


class Purification(Fitted):
    """Moves images by a few gradient steps that decrease an autoencoder's reconstruction error.

    The perturbation is a constant for the gradient of the output.

    Source: Shi, Holtz and Mishne 2021, "Online adversarial purification based on self-supervised
    learning", with the reconstruction error of an autoencoder trained beside the network.
    Broken by: Croce, Gowal, Brunner, Shelhamer, Hein and Cemgil 2022, "Evaluating the adversarial
    robustness of adaptive test-time defenses", for defences of this kind.

    >>> layer, images = Purification(nn.Identity(), size=0.01, steps=5), torch.rand(2, 1, 4, 4)
    >>> bool((layer(images) - images).abs().max() <= 0.0501)
    True
    """

    def __init__(
        self, network: nn.Module, size: float = 0.03, steps: int = 5, training_steps: int = 100
    ):
        super().__init__(network)
        self.denoiser = Denoiser()
        self.size = size
        self.steps = steps
        self.training_steps = training_steps

    def fit(self, images: Tensor, labels: Tensor) -> None:
        """Train the autoencoder; the network stays."""
        self.denoiser.fit(images, self.training_steps)

    def perturbation(self, images: Tensor) -> Tensor:
        """Return the perturbation (n, c, h, w) of images."""
        images = images.detach()
        moved = torch.zeros_like(images)
        with torch.enable_grad():
            for _ in range(self.steps):
                leaf = (images + moved).requires_grad_()
                error = (self.denoiser(leaf) - leaf).square().sum()
                moved = moved - self.size * torch.autograd.grad(error, leaf)[0].sign()
        return moved

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images + self.perturbation(images))
