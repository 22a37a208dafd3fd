"""Models whose gradients are known to lie, each in another way, and how."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GradientKiller(nn.Module):
    """A last layer that keeps the order of the logits and kills their gradient: it rounds them."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return (self.model(images) * 4).round()


class QuantisedInput(nn.Module):
    """A first layer of few grey levels, through which no gradient comes."""

    def __init__(self, model: nn.Module, levels: int = 8):
        super().__init__()
        self.model = model
        self.levels = levels

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images * self.levels).round() / self.levels)


class Temperature(nn.Module):
    """Logits so large that the softmax rounds to certainty."""

    def __init__(self, model: nn.Module, scale: float = 1000.0):
        super().__init__()
        self.model = model
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * self.model(images)


class Randomised(nn.Module):
    """Noise on the input, another at every call."""

    def __init__(self, model: nn.Module, noise: float = 0.1):
        super().__init__()
        self.model = model
        self.noise = noise

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images + self.noise * torch.randn_like(images))


class Rippled(nn.Module):
    """A tiny high-frequency ripple, steeper than the model's slope: one step follows it nowhere."""

    def __init__(self, model: nn.Module, height: float = 0.02, waves: float = 400.0):
        super().__init__()
        self.model = model
        self.height = height
        self.waves = waves

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images + self.height * torch.sin(self.waves * images))
