"""A model behind a defence."""

from __future__ import annotations

import torch

from scotoma.models.classifier import Classifier
from scotoma.models.defences import DEFENCES, defend
from scotoma.models.defences.base import Fitted
from scotoma.models.loading import open_model
from scotoma.models.sources.opening import Opening
from scotoma.utils.errors import InputError

FITTING_IMAGES = 10_000
"""Training images for the fitting of a defence, which then takes seconds on a small network."""


def defence(rest: str, opening: Opening) -> Classifier:
    """NAME:MODEL: another model behind a defence, fitted to training images if it needs that."""
    name, _, inner = rest.partition(":")
    kind = DEFENCES[name]
    if not inner:
        raise InputError(f"model 'defence:{rest}' names no network; write defence:{name}:MODEL")
    network = open_model(inner, opening)
    data, images, labels = opening.data, None, None
    if issubclass(kind, Fitted) and data is not None and data.train is not None:
        rows = torch.arange(min(FITTING_IMAGES, len(data.train)))
        images, labels = data.train.images(rows), data.train.labels[rows]
    defended = defend(name, network.module, images, labels)
    card = {"defence": name, "network": network.card}
    title = f"{name}:{network.name}"
    return Classifier.of(defended, title, card, classes=network.classes, input=network.input)
