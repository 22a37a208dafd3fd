"""What a recipe is: the loss of a batch, on the images that the defence learns from."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class Recipe(Protocol):
    """A frozen dataclass of hyper-parameters; its call is the inner step of the training loop."""

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        """The loss to descend, a scalar whose gradient reaches the weights.

        Args:
            model: in training mode.
            images: a batch in [0, 1], augmented where that was asked for.
            labels: int64 (n,).
            progress: how much of the training is done, in [0, 1).
            generator: for random starts.
        """
        ...
