"""Weights between two trained models: accuracy that fine-tuning cost, bought back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.nn import Module

from scotoma.data.dataset import Split
from scotoma.models.classifier import Classifier
from scotoma.threat import Threat
from scotoma.utils.errors import InputError


@dataclass(frozen=True)
class Interpolation:
    """Weights part of the way from the model that training begins with to another.

    If the one was fine-tuned from the other, its weights part of the way back give up some of what
    fine-tuning gained and recover some of the accuracy that it cost (Wortsman et al. 2022, "Robust
    fine-tuning of zero-shot models"; what it gave here: docs/blindspots.md).

    Args:
        threat: used by the training log only.
        sources: the other model, alone; of the same architecture.
        share: of the way to it, from 0 to 1.

    >>> from torch import nn
    >>> one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> recipe = Interpolation(Threat("linf", 0.1), (Classifier.of(other),), share=1.0)
    >>> recipe.fit(one)
    >>> bool((one.weight == other.weight).all())
    True
    """

    claim: ClassVar = "linf:0.3"
    threat: Threat
    sources: tuple[Classifier, ...] = ()
    share: float = 0.25

    @torch.no_grad()
    def fit(self, model: Module, split: Split | None = None) -> None:
        """Move the weights and statistics of the model, in place.

        Raises:
            InputError: there is not one other model, or it has other weights.
        """
        if len(self.sources) != 1:
            raise InputError(
                f"recipe interpolated takes one model as sources=; got {len(self.sources)}"
            )
        (source,) = self.sources
        mine, theirs = model.state_dict(), source.module.state_dict()
        if {name: part.shape for name, part in mine.items()} != {
            name: part.shape for name, part in theirs.items()
        }:
            raise InputError(
                f"sources={source.name}: has other weights than the model to begin with"
            )
        for name, part in mine.items():
            if part.is_floating_point():
                part.lerp_(theirs[name].to(part), self.share)

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        raise InputError("recipe interpolated has no steps")
