"""Training on clean images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module

from scotoma.claim import Threat


@dataclass(frozen=True)
class Natural:
    """Training on clean images, the control for every defence.

    Args:
        threat: used by the training log only.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    >>> recipe, images, labels = Natural(Threat("linf", 0.1)), torch.rand(2, 1, 4, 4), [0, 2]
    >>> recipe(model, images, torch.tensor(labels), 0.5, torch.Generator()).shape
    torch.Size([])
    """

    claim: ClassVar = "linf:0.1"
    threat: Threat

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        return F.cross_entropy(model(images).float(), labels)
