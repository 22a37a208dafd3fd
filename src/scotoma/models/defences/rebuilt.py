"""Images rebuilt, or moved by gradient steps, before the network sees them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.defences.base import Defence, Fitted, train


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
