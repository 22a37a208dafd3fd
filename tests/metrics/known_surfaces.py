"""Models whose loss surface is known, and images that small perturbations leave inside [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

SHAPE = (1, 8, 8)
Shape = tuple[int, int, int]


class TwoClass(nn.Module):
    """Logits (0, f) of a function of flat images; f above 0 fools the images of class 0."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        value = self.function(images.flatten(1))
        return torch.stack([0 * value, value], 1)


class Ripple(nn.Module):
    """w^T (x - 1/2) - 1 with a ripple along r, orthogonal to the signs of w.

    At `grey` images the ripple turns the gradient to the signs of r. After a step of `step` along
    them the ripple is level, after ten it is 0 again.
    """

    def __init__(self, weight: Tensor, step: float):
        super().__init__()
        order = weight.sign().argsort(stable=True)
        self.across = torch.ones_like(weight)
        self.across[order[::2]] = -1  # as often with the signs of w as against them
        self.weight = weight
        self.frequency = 4.5 * math.pi / (step * len(weight))
        self.height = 3 * float(weight.abs().max()) / self.frequency

    def grey(self, n: int, shape: Shape = SHAPE) -> Tensor:
        """Images about 1/2, all of them at the same place of the ripple."""
        noise = 0.1 * torch.rand((n, len(self.weight)), generator=torch.Generator().manual_seed(0))
        return (0.5 + noise - (noise @ self.across)[:, None] * self.across / len(self.weight)).view(
            n, *shape
        )

    def forward(self, x: Tensor) -> Tensor:
        return (
            (x - 0.5) @ self.weight
            - 1
            + self.height * torch.sin(self.frequency * ((x - 0.5) @ self.across))
        )


def weight(shape: Shape = SHAPE, seed: int = 0) -> Tensor:
    """Normal numbers, as many with either sign, (d,)."""
    values = (
        torch.randn(math.prod(shape), generator=torch.Generator().manual_seed(seed)).abs() + 0.1
    )
    return values * (1 - 2 * (torch.arange(len(values)) % 2))


def linear(w: Tensor, margin: float = 1.0, scale: float = 1.0) -> TwoClass:
    """f = w^T (x - 1/2) - margin, times a scale."""
    return TwoClass(lambda x: scale * ((x - 0.5) @ w - margin))


def grey(n: int, shape: Shape = SHAPE) -> Tensor:
    """Uniform noise between 0.4 and 0.6."""
    return 0.4 + 0.2 * torch.rand((n, *shape), generator=torch.Generator().manual_seed(1))


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sin()


def bent(shape: Shape = SHAPE, classes: int = 5, frequency: float = 16.0) -> nn.Sequential:
    """Random waves, whose loss is far from linear; the weights are trainable."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, last = nn.Linear(math.prod(shape), 64), nn.Linear(64, classes)
    with torch.no_grad():
        first.weight *= frequency
        last.weight *= 4
    return nn.Sequential(nn.Flatten(), first, Sine(), last).eval()


def zeros(n: int) -> Tensor:
    """Labels of class 0."""
    return torch.zeros(n, dtype=torch.int64)
