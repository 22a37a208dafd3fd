"""The distributional certificate of Sinha et al. (2018): what a shift of the data can cost in the mean.

For every distribution P whose Wasserstein distance from the training data P_n, with the squared L2 distance as cost, is at most
rho: E_P loss <= gamma rho + mean of phi over P_n, where phi(x) = sup over x' of loss(x') - gamma ||x' - x||^2 (Sinha et al. 2018,
eq. 12). It bounds a mean, not the label of any image. phi is found by gradient ascent, so the bound is sound only where that finds
the supremum: where gamma is at least half the largest curvature of the loss, which makes the inner problem concave.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.layers import parts
from scotoma.models.resnet import Standardise

GAMMA = 0.5 / 1.3
"""The authors' price of a squared L2 distance of 1 on MNIST."""

SMOOTH = (
    *(
        nn.Conv2d,
        nn.Linear,
        nn.Flatten,
        nn.Identity,
        nn.Dropout,
        nn.BatchNorm2d,
        nn.AvgPool2d,
        nn.AdaptiveAvgPool2d,
        Standardise,
    ),
    *(nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh, nn.Sigmoid),
)


def is_smooth(model: nn.Module) -> bool:
    """Whether it is a sequence of layers whose gradient has no jumps, as the certificate needs: none of them a ReLU."""
    return all(isinstance(part, SMOOTH) for part in parts(model))


def losses(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy, (n,), with a target of 1 - `smoothing` for the label and the rest shared equally by the others."""
    classes = logits.shape[1]
    shared = smoothing * classes / (classes - 1)  # torch gives the label its share too
    return F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=shared)


def transport(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    gamma: float = GAMMA,
    steps: int = 15,
    smoothing: float = 0.0,
) -> Tensor:
    """Images (n, c, h, w) moved up loss(x') - gamma ||x' - x||^2, the inner problem (Sinha et al. 2018, Algorithm 1).

    As in the authors' code: with e = 1 / (2 gamma), gradient ascent on e loss(x') - ||x' - x||^2 / 2, one step of 1, then
    `steps` of 1 / sqrt(t + 2), t = 0, 1 ... The images may leave [0, 1].

    Args:
        model: from images to logits.
        images: (n, c, h, w).
        labels: int64 (n,).
        gamma: price of a squared L2 distance of 1.
        steps: steps after the first one.
        smoothing: see `losses`.
    """
    x = images
    for t in range(steps + 1):
        leaf = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(losses(model(leaf), labels, smoothing).sum(), leaf)
        x = x + (gradient / (2 * gamma) - (x - images)) / (t + 1) ** 0.5
    return x


def curvature(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    steps: int = 20,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Largest curvature of the loss at each image, (n,): a lower estimate of the largest eigenvalue of its Hessian.

    Power iteration on Hessian-vector products; the largest Rayleigh quotient met. The inner problem is concave there where it is
    at most 2 gamma.
    """
    leaf = images.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(
            losses(model(leaf), labels).sum(), leaf, create_graph=True
        )
    direction = torch.randn(images.shape, generator=generator, device=images.device)
    largest = images.new_full((len(images),), -torch.inf)
    for _ in range(steps):
        direction = F.normalize(direction.flatten(1)).view_as(images)
        (turned,) = torch.autograd.grad(gradient, leaf, direction, retain_graph=True)
        largest = largest.maximum((turned * direction).flatten(1).sum(1))
        direction = turned
    return largest
