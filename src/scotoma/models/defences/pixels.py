"""Fixed functions of the pixels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
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


class Thermometer(Defence):
    """Encodes pixels in the thermometer code and gives the network the share of lit levels.

    The code of a pixel x is 1 at each level j with x > j / levels. The authors' network reads the
    code. Here its mean replaces the pixel, so that any network can follow: this equals their first
    layer if its weights are the same for all levels.

    Source: Buckman, Roy, Raffel and Goodfellow 2018, "Thermometer encoding: one hot way to resist
    adversarial examples".
    Broken by: Athalye, Carlini and Wagner 2018, "Obfuscated gradients give a false sense of
    security" (BPDA).

    >>> layer = Thermometer(nn.Identity(), levels=4)
    >>> layer(torch.tensor([[[[0.0, 0.3, 1.0]]]])).tolist()
    [[[[0.0, 0.5, 1.0]]]]
    """

    def __init__(self, network: nn.Module, levels: int = 16):
        super().__init__(network)
        self.levels = levels

    def encode(self, images: Tensor) -> Tensor:
        """Return the code (n, c, levels, h, w) of images (n, c, h, w), 0 or 1."""
        edges = torch.arange(self.levels, device=images.device) / self.levels
        return (images[:, :, None] > edges[:, None, None]).to(images.dtype)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.encode(images).mean(2))


BLOCK = 8
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Steps of the coefficients at quality 50, of the JPEG standard (annex K.1)."""


class Jpeg(Defence):
    """Compresses images as JPEG does before the network: rounded coefficients of 8x8 blocks.

    Every channel is coded as luminance, without subsampling of colours. Sides that are no multiple
    of 8 are padded with their last row and column.

    Source: Dziugaite, Ghahramani and Roy 2016, "A study of the effect of JPG compression on
    adversarial images"; Guo, Rana, Cisse and van der Maaten 2018, "Countering adversarial images
    using input transformations".
    Broken by: Athalye, Carlini and Wagner 2018, "Obfuscated gradients give a false sense of
    security" (BPDA); Shin and Song 2017, "JPEG-resistant adversarial images".

    >>> grey = torch.full((1, 1, 8, 8), 0.5)
    >>> bool((Jpeg(nn.Identity())(grey) - grey).abs().max() < 0.01)
    True
    """

    table: Tensor
    basis: Tensor

    def __init__(self, network: nn.Module, quality: int = 75):
        super().__init__(network)
        scale = 5000 / quality if quality < 50 else 200 - 2 * quality
        steps = torch.floor((torch.tensor(LUMINANCE) * scale + 50) / 100).clamp(1, 255)
        rows, places = torch.arange(BLOCK)[:, None], torch.arange(BLOCK)
        basis = torch.cos(math.pi * rows * (2 * places + 1) / (2 * BLOCK)) / 2
        basis[0] /= math.sqrt(2)
        self.register_buffer("table", steps, persistent=False)
        self.register_buffer("basis", basis, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        n, c, h, w = images.shape
        padded = F.pad(images * 255 - 128, (0, -w % BLOCK, 0, -h % BLOCK), mode="replicate")
        high, wide = padded.shape[2] // BLOCK, padded.shape[3] // BLOCK
        blocks = padded.reshape(n, c, high, BLOCK, wide, BLOCK).transpose(3, 4)
        coefficients = self.basis @ blocks @ self.basis.T
        coefficients = torch.round(coefficients / self.table) * self.table
        blocks = self.basis.T @ coefficients @ self.basis
        decoded = blocks.transpose(3, 4).reshape(padded.shape)[:, :, :h, :w]
        return self.network(((decoded + 128) / 255).clamp(0, 1))


class StiffFlow(Defence):
    """Lets pixels flow to the nearest of `levels` stable points, in a few coarse Euler steps.

    The flow dx/dt = -sin(2 pi L x) / (2 pi L), L = levels - 1, has its stable points at multiples
    of 1 / L. One step takes the time `step`, which multiplies a difference by 1 - step near them
    and by 1 + step half way between. After `steps` steps gradients vanish almost everywhere and
    explode at the borders.

    Source: the idea of a classifier behind stable points of a neural ODE of Kang, Song, Ding and
    Tay 2021, "Stable neural ODE with Lyapunov-stable equilibrium points for defending against
    adversarial attacks", on pixels instead of features.
    Broken by: Croce, Gowal, Brunner, Shelhamer, Hein and Cemgil 2022, "Evaluating the adversarial
    robustness of adaptive test-time defenses".

    >>> flow = StiffFlow(nn.Identity(), levels=3)
    >>> flow(torch.tensor([0.1, 0.3, 0.6, 0.9])).round(decimals=2).abs().tolist()
    [0.0, 0.5, 0.5, 1.0]
    """

    def __init__(self, network: nn.Module, levels: int = 16, step: float = 1.5, steps: int = 12):
        super().__init__(network)
        self.levels = levels
        self.step = step
        self.steps = steps

    def forward(self, images: Tensor) -> Tensor:
        wave = 2 * math.pi * (self.levels - 1)
        for _ in range(self.steps):
            images = images - self.step * torch.sin(wave * images) / wave
        return self.network(images)


class Ripple(Defence):
    """Adds a fast sine of each pixel to it: gradients are exact, large, and useless at a step away.

    x becomes x + height * sin(2 pi x / length). The slope is up to 1 + 2 pi height / length (22)
    and changes its sign within a fraction of an eps.

    Source: shattered gradients in the sense of Athalye, Carlini and Wagner 2018, "Obfuscated
    gradients give a false sense of security", in one line; nobody proposed it.
    Broken by: gradients averaged over a neighbourhood, as Tramer, Carlini, Brendel and Madry 2020,
    "On adaptive attacks to adversarial example defenses", use against such defences.

    >>> images = torch.rand(1, 1, 2, 2)
    >>> bool((Ripple(nn.Identity())(images) - images).abs().max() <= 0.02)
    True
    """

    def __init__(self, network: nn.Module, height: float = 0.02, length: float = 0.006):
        super().__init__(network)
        self.height = height
        self.length = length

    def forward(self, images: Tensor) -> Tensor:
        wave = torch.sin(2 * math.pi * images / self.length)
        return self.network(images + self.height * wave)
