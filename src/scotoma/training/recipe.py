"""What a recipe is: the loss of a batch, on the images that the defence learns from."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class Recipe(Protocol):
    """A frozen dataclass of hyper-parameters; its call is the inner step of the training loop.

    It may also say, as class variables, on which architecture (`arch`) and at which learning rate (`rate`) it is at home, that it
    wants each class equally often in every batch (`balanced`), and that its models are too slow to be attacked after each epoch
    and only classify so many test images (`evaluated`). `finish(model, split)` is called when the weights are done, in evaluation
    mode; a recipe that needs no steps has `fit(model, split)`, which is called before.
    """

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        """The loss to descend, a scalar whose gradient reaches the weights.

        Args:
            model: in training mode.
            images: a batch in [0, 1], augmented where that was asked for.
            labels: int64 (n,).
            progress: how much of the training is done, in [0, 1).
            generator: for random starts.
        """
        ...
