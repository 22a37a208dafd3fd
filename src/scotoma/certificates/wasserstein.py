"""The distributional certificate of Sinha et al. (2018): the mean loss under a shift of the data.

For every distribution P within Wasserstein distance rho (cost: squared L2 distance) of the training
data P_n, E_P loss <= gamma rho + mean of phi over P_n, where phi(x) = sup over x' of loss(x') -
gamma ||x' - x||^2 (eq. 12). It bounds a mean, not the label of any image. phi comes from gradient
ascent, so the bound is sound only where that finds the supremum: where gamma is at least half the
largest curvature of the loss, which makes the inner problem concave.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.layers import is_plain, parts
from scotoma.models.resnet import Standardise

GAMMA = 0.5 / 1.3
"""The authors' price of a squared L2 distance of 1 on MNIST."""

SMOOTH = (
    *(nn.Conv2d, nn.Linear, nn.Flatten, nn.Identity, nn.Dropout, Standardise),
    *(nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
    *(nn.ELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Tanh, nn.Sigmoid),
)


def is_smooth(model: nn.Module) -> bool:
    """Return whether the layers form a sequence with continuous gradient, so without ReLU.

    >>> is_smooth(nn.Sequential(nn.Linear(2, 2), nn.ReLU())), is_smooth(nn.Linear(2, 2))
    (False, True)
    """
    return all(isinstance(module, SMOOTH) and is_plain(module) for module in parts(model))


def losses(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy, (n,), with target 1 - `smoothing` for the label.

    The other classes share the rest equally.

    >>> losses(torch.zeros(1, 2), torch.tensor([0]), smoothing=0.1)
    tensor([0.6931])
    """
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
    """Return images (n, c, h, w) that climb loss(x') - gamma ||x' - x||^2 (Algorithm 1).

    As in the authors' code: with e = 1 / (2 gamma), gradient ascent on e loss(x') - ||x' - x||^2 /
    2, one step of 1, then `steps` of 1 / sqrt(t + 2), t = 0, 1 ... The images may leave [0, 1].

    Args:
        model: from images to logits.
        images: (n, c, h, w).
        labels: int64 (n,).
        gamma: price of a squared L2 distance of 1.
        steps: steps after the first one.
        smoothing: see `losses`.

    >>> image, label = torch.tensor([[[[0.5, 0.5]]]]), torch.tensor([0])
    >>> transport(nn.Flatten(), image, label, gamma=5.0).argmax().item()
    1
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
    """Return a lower estimate of the loss's largest curvature at each image, (n,).

    This is the largest Rayleigh quotient in a power iteration on Hessian-vector products. The inner
    problem is concave where the largest eigenvalue is at most 2 gamma.

    >>> image, label = torch.tensor([[[[0.5, 0.5]]]]), torch.tensor([0])
    >>> curvature(nn.Flatten(), image, label).round(decimals=2)
    tensor([0.5000])
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
