"""Models whose answer to a covered or noised image is known by counting."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class OnePixel(nn.Module):
    """Right, class 0, while the first channel of one pixel is what it was: near `value`."""

    def __init__(self, row: int, column: int, value: float, reach: float = 1e-3):
        super().__init__()
        self.row, self.column, self.value, self.reach = row, column, value, reach

    def forward(self, images: Tensor) -> Tensor:
        moved = (images[:, 0, self.row, self.column] - self.value).abs() - self.reach
        return torch.stack([-moved, moved], 1)


class Total(nn.Module):
    """Class 0 while the sum of the values, each times its weight, is above a threshold."""

    def __init__(self, weight: Tensor, threshold: float):
        super().__init__()
        self.weight, self.threshold = weight, threshold

    def forward(self, images: Tensor) -> Tensor:
        total = (images * self.weight).sum((1, 2, 3)) - self.threshold
        return torch.stack([total, -total], 1)


class Widest(nn.Module):
    """Linear, and it remembers the most images that it was asked about at once."""

    def __init__(self, shape: tuple[int, int, int], classes: int = 4, seed: int = 0):
        super().__init__()
        weight = torch.randn(
            shape[0] * shape[1] * shape[2], classes, generator=torch.Generator().manual_seed(seed)
        )
        self.register_buffer("weight", weight - weight.mean(0))
        self.most = 0

    def forward(self, images: Tensor) -> Tensor:
        self.most = max(self.most, len(images))
        return images.flatten(1) @ self.get_buffer("weight")


def linear_problem(
    n: int, shape: tuple[int, int, int], seed: int = 0
) -> tuple[Widest, Tensor, Tensor, Tensor]:
    """A linear model, images that it classifies correctly, labels, and gradient times input."""
    model = Widest(shape, seed=seed)
    images = torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed + 1))
    labels = model(images).argmax(1)
    weight = model.get_buffer("weight")
    attribution = (weight - weight.mean(1, keepdim=True)).T[labels].view_as(images) * images
    model.most = 0
    return model, images, labels, attribution


def random_map(n: int, shape: tuple[int, int, int], seed: int = 5) -> Tensor:
    """Signed, without ties."""
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))
