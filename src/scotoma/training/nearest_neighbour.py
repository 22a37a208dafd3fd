"""Training without steps: the training images are the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor
from torch.nn import Module

from scotoma.claim import Threat
from scotoma.data.dataset import Split
from scotoma.models.nearest_neighbour import NearestNeighbour
from scotoma.utils.errors import InputError


@dataclass(frozen=True)
class NearestNeighbourTraining:
    """Storing all training images in the model (Schott et al. 2019, section 5).

    Args:
        threat: used by the training log only.

    >>> NearestNeighbourTraining(Threat("l2", 1.5)).arch
    'nearest-neighbour'
    """

    arch: ClassVar = "nearest-neighbour"
    claim: ClassVar = "l2:1.5"
    evaluated: ClassVar = 1000
    threat: Threat

    def fit(self, model: Module, split: Split) -> None:
        """Store all images of the split in the model."""
        if not isinstance(model, NearestNeighbour):
            raise InputError("recipe nearest-neighbour trains arch=nearest-neighbour only")
        model.remember(split)

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        raise InputError("recipe nearest-neighbour has no steps")
