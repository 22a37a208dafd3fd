"""Small models to attribute the logits of, and images for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHAPE = (3, 5, 7)
CLASSES = 4


def network(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> nn.Sequential:
    """A convolution, softplus and a linear layer at random, frozen."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(shape[0], 6, 3, padding=1),
            nn.Softplus(),
            nn.Flatten(),
            nn.Linear(6 * shape[1] * shape[2], CLASSES),
        )
    return model.eval().requires_grad_(False)


def flat(shape: tuple[int, int, int] = SHAPE) -> tuple[nn.Sequential, Tensor]:
    """A linear model at random, frozen, and its weights (classes, c, h, w)."""
    layer = nn.Linear(shape[0] * shape[1] * shape[2], CLASSES)
    with torch.no_grad():
        layer.weight.copy_(
            torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0))
        )
    return nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(
        False
    ), layer.weight.detach().view(-1, *shape)


def batch(n: int, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images and labels at random."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((n, *shape), generator=generator), torch.randint(
        0, CLASSES, (n,), generator=generator
    )


class Watched(nn.Module):
    """A model that remembers its largest batch, and how many images went through it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.largest = 0
        self.total = 0

    def forward(self, images: Tensor) -> Tensor:
        self.largest = max(self.largest, len(images))
        self.total += len(images)
        return self.model(images)
