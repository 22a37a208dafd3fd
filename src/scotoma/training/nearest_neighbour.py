"""Training without weights: the model remembers the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.claim import Threat
from scotoma.data.dataset import Split
from scotoma.models.nearest_neighbour import NearestNeighbour
from scotoma.utils.errors import InputError


@dataclass(frozen=True)
class Remembering:
    """The training images themselves are the model (nearest neighbour; Schott et al. 2019, section 5)."""

    arch: ClassVar = "nearest-neighbour"
    claim: ClassVar = "l2:1.5"
    evaluated: ClassVar = 1000
    threat: Threat

    def fit(self, model: nn.Module, split: Split) -> None:
        """Take all images at once."""
        if not isinstance(model, NearestNeighbour):
            raise InputError("recipe nearest-neighbour goes with arch=nearest-neighbour")
        model.remember(split)

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        raise InputError("recipe nearest-neighbour has no steps")
