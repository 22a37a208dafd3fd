"""Randomness in the images or inside the network: each call is one draw."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.defences.base import ACTIVATIONS, Defence, replace_layers


class ResizePad(Defence):
    """Shrinks the images to a random size and pads them with zeros at a random place.

    The authors enlarge images of 299 pixels to at most 331. Here the size after padding is that of
    the images, so that any network can follow. One draw serves the whole batch, as in their code.

    Source: Xie, Wang, Zhang, Ren and Yuille 2018, "Mitigating adversarial effects through
    randomization".
    Broken by: Athalye, Carlini and Wagner 2018, "Obfuscated gradients give a false sense of
    security" (expectation over transformation).

    >>> ResizePad(nn.Identity())(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(self, network: nn.Module, least: float = 0.9):
        super().__init__(network)
        self.least = least

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        scale = self.least + (1 - self.least) * float(torch.rand(()))
        h, w = max(1, round(scale * height)), max(1, round(scale * width))
        small = F.interpolate(images, size=(h, w), mode="bilinear", align_corners=False)
        top = int(torch.randint(height - h + 1, ()))
        left = int(torch.randint(width - w + 1, ()))
        return self.network(F.pad(small, (left, width - w - left, top, height - h - top)))


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
