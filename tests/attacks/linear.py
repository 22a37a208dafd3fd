"""Linear models, where the smallest fooling perturbation is known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scotoma.attacks.core.losses import GUARD, margin
from scotoma.attacks.core.nearest import size


def linear_model(shape: tuple[int, int, int], classes: int, seed: int = 0) -> nn.Sequential:
    """Random weights and no bias."""
    layer = nn.Linear(shape[0] * shape[1] * shape[2], classes)
    with torch.no_grad():
        layer.weight.copy_(
            torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(seed))
        )
        layer.bias.zero_()
    return nn.Sequential(nn.Flatten(), layer).requires_grad_(False).eval()


def saturated_images(
    n: int, shape: tuple[int, int, int], seed: int = 0, share: float = 0.9
) -> Tensor:
    """Uniform noise, `share` of whose pixels are 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((n, *shape), generator=generator)
    return torch.where(
        torch.rand(images.shape, generator=generator) < share, images.round(), images
    )


def clearly_classified(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the images farther from the boundary than rounding, and their classes."""
    logits = model(images)
    labels = logits.argmax(1)
    clear = margin(logits, labels) < -100 * GUARD * logits.abs().amax(1)
    return images[clear], labels[clear]


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the L-inf distance of each image, (n,)."""
    return size(a - b, "linf")


class Undefined(nn.Module):
    """A model with an undefined derivative at one pixel where it is 0."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images) + 0 * images[:, :1, 0, 0].sqrt()


def boxed_optimum(model: nn.Sequential, images: Tensor, labels: Tensor) -> Tensor:
    """Return the least L-inf distance that fools a linear model in [0, 1], float64 (n,), or inf.

    Towards class j the loss rises fastest if every pixel moves with the sign of w_j - w_label as
    far as radius and box allow. That gain grows with the radius, so bisection finds where it equals
    the margin.
    """
    layer = model[1]
    assert isinstance(layer, nn.Linear)
    weight, bias = layer.weight.double(), layer.bias.double()
    x = images.flatten(1).double()
    logits = x @ weight.T + bias
    slope = weight[None] - weight[labels][:, None]
    room = torch.where(slope > 0, 1 - x[:, None], x[:, None])
    deficit = logits.gather(1, labels[:, None]) - logits

    def gain(radius: Tensor) -> Tensor:
        return (slope.abs() * room.minimum(radius[..., None])).sum(-1)

    low, high = torch.zeros_like(logits), torch.ones_like(logits)
    for _ in range(50):
        middle = (low + high) / 2
        enough = gain(middle) >= deficit
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    radius = torch.where(gain(torch.ones_like(logits)) >= deficit, high, torch.inf)
    return radius.scatter(1, labels[:, None], torch.inf).amin(1)
