"""What a recipe is: the images that the model learns from, given the images that it was shown."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class Recipe(Protocol):
    """A frozen dataclass of hyper-parameters; its call is the inner step of the training loop."""

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        """Images to learn from, (n, c, h, w) in [0, 1].

        Args:
            model: in training mode.
            images: a clean batch in [0, 1].
            labels: int64 (n,).
            progress: how much of the training is done, in [0, 1).
            generator: for random starts.
        """
        ...
