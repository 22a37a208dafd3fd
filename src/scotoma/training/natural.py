"""Training on the images as they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.claim import Threat


@dataclass(frozen=True)
class Natural:
    """Training on the images as they are, the control for every defence."""

    threat: Threat

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        progress: float,
        generator: torch.Generator,
    ) -> Tensor:
        return F.cross_entropy(model(images).float(), labels)
