"""A last layer whose backward pass returns zeros."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scotoma.models.defences.base import Defence


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        return logits.clone()

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Tensor:
        return torch.zeros_like(gradient[0])


class ZeroBackward(Defence):
    """Returns the logits unchanged, but zeros as their gradient.

    Source: the plainest form of gradient masking, as described by Papernot, McDaniel, Goodfellow,
    Jha, Celik and Swami 2017, "Practical black-box attacks against machine learning".
    Broken by: the same paper, with examples of a substitute network; every attack without
    gradients.

    >>> from torch import nn
    >>> images = torch.rand(1, 1, 1, 2, requires_grad=True)
    >>> ZeroBackward(nn.Flatten())(images).sum().backward()
    >>> images.grad.abs().sum().item()
    0.0
    """

    def forward(self, images: Tensor) -> Tensor:
        return _NoGradient.apply(self.network(images))  # type: ignore[return-value]
