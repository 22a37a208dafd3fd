"""What a recipe is: the loss of a batch, on the images that the defence learns from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module

from scotoma.threat import Threat


class Recipe(Protocol):
    """A frozen dataclass of hyper-parameters; its call is the inner step of the training loop.

    Optional class variables: `arch` (default architecture), `rate` (default learning rate),
    `balanced` (every batch has the same number of images of each class), `norms` (those of the
    threats that it defends against; all without it) and `evaluated` (number of test images that the
    log classifies, without attacks, since the model is slow).

    Optional methods: `finish(model, split)` is called after training, in evaluation mode;
    `fit(model, split)` replaces the training steps.
    """

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        """Return the loss to minimise, a scalar whose gradient reaches the weights.

        Args:
            model: in training mode.
            images: an augmented batch in [0, 1], (n, c, h, w).
            labels: int64 (n,).
            progress: fraction of the training that is done, in [0, 1).
            generator: for random starts.
        """
        ...


@dataclass(frozen=True)
class AdversarialTraining(ABC):
    """The cross-entropy on adversarial images alone.

    Args:
        threat: the ball to be robust in.
    """

    threat: Threat

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        adversarial = self.perturb(model, images, labels, progress, generator)
        return F.cross_entropy(model(adversarial).float(), labels)

    @abstractmethod
    def perturb(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        """Return the adversarial images to learn from, (n, c, h, w)."""

    def grown(self, progress: float, warmup: float) -> Threat:
        """Return the threat while eps grows during the first `warmup` of the training."""
        return Threat(self.threat.norm, self.threat.eps * min(1.0, max(progress, 1e-3) / warmup))
