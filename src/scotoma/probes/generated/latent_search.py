"""Unrestricted adversarial examples: descent in a generator's latent space (Song et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from scotoma.attacks.core.losses import margin
from scotoma.attacks.core.oracle import Oracle

STEPS = 20
RATE = 0.1
"""Step of Adam, in standard deviations of the latent's prior."""
REACH = 0.3
"""Largest change of a latent, as a fraction of the root of its dimensions: the length of a typical
latent. At 0.5 some images that the oracle accepts are too faint for people (docs/generated.md)."""
BETAS, STABILITY = (0.9, 0.999), 1e-8


class Searched(NamedTuple):
    """The end of a search for each image."""

    images: Tensor
    """(n, c, h, w)."""
    margins: Tensor
    """Logit of the label less the largest other one, (n,); below 0 where the model is wrong."""
    moved: Tensor
    """Change of the latent over the root of its dimensions, (n,)."""


def latent_search(
    model: nn.Module,
    decode: Callable[[Tensor, Tensor], Tensor],
    latents: Tensor,
    labels: Tensor,
    *,
    steps: int = STEPS,
    reach: float = REACH,
) -> Searched:
    """Move latents so that the model's margin falls, until it is wrong or the steps end.

    The image with the smallest margin on the path is returned; a path ends at its first image that
    is misclassified. Only the distance to the start keeps the image valid, so the caller has to
    judge it.

    Args:
        model: from images to logits.
        decode: from latents and labels to images, with gradients by the latents.
        latents: (n, ...), drawn from a standard normal distribution.
        labels: int64 (n,).
        steps: number of steps of Adam.
        reach: see `REACH`.

    Source:
        Song et al. 2018, section 3.2; they minimise a hinge on each coordinate instead of a ball.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> decode = lambda z, labels: z.sigmoid().view(-1, 1, 2, 2)
        >>> latent_search(model, decode, torch.zeros(3, 4), torch.zeros(3).long()).images.shape
        torch.Size([3, 1, 2, 2])
    """
    radius = reach * latents[:1].numel() ** 0.5
    oracle = Oracle(model, labels)
    z, mean, square = latents.clone(), torch.zeros_like(latents), torch.zeros_like(latents)
    best = None
    for step in range(steps + 1):
        rows = oracle.rows
        leaf = z[rows].requires_grad_()
        with torch.enable_grad():
            images = decode(leaf, oracle.labels)
        # `margin` is the largest other logit less that of the label: it should rise
        result = oracle.value_and_grad(images.detach(), margin)
        if best is None:
            infinite = images.new_full((len(z),), torch.inf)
            best = Searched(images.detach().clone(), infinite, torch.zeros_like(infinite))
        lower = -result.loss < best.margins[rows]
        better = rows[lower]
        best.images[better], best.margins[better] = images.detach()[lower], -result.loss[lower]
        change = (z[better] - latents[better]).flatten(1).norm(dim=1)
        best.moved[better] = change / latents[:1].numel() ** 0.5
        if step == steps or bool(result.fooled.all()):
            break
        (slope,) = torch.autograd.grad(images, leaf, result.gradient)
        mean[rows] = mean[rows].lerp(slope, 1 - BETAS[0])
        square[rows] = BETAS[1] * square[rows] + (1 - BETAS[1]) * slope.square()
        size = (square[rows] / (1 - BETAS[1] ** (step + 1))).sqrt() + STABILITY
        stepped = z[rows] + RATE * mean[rows] / (1 - BETAS[0] ** (step + 1)) / size
        delta = (stepped - latents[rows]).flatten(1)
        delta *= (radius / delta.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1)
        z[rows] = latents[rows] + delta.view_as(stepped)
        oracle = oracle.select(~result.fooled)
    assert best is not None
    return best
