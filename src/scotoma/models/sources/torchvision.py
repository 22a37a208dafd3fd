"""Image classifiers of torchvision."""

from __future__ import annotations

from typing import Any

from torch import nn

from scotoma.data.input import InputSpec
from scotoma.models.classifier import Classifier
from scotoma.models.preparation import Prepared
from scotoma.models.sources.opening import Opening, one_line
from scotoma.utils.errors import InputError
from scotoma.utils.optional import require
from scotoma.utils.registry import nearest

INSTALL = "torch==2.14.1 torchvision==0.29.1"


def torchvision(rest: str, opening: Opening) -> Classifier:
    """NAME[@WEIGHTS]: a network of torchvision with its default weights, or with weights=FILE."""
    spec = f"torchvision:{rest}"
    opening.only(spec, "weights")
    models: Any = require("torchvision.models", "model torchvision:NAME", INSTALL)
    name, _, chosen = rest.partition("@")
    if name not in models.list_models():
        raise InputError(f"{spec}: unknown; {nearest(name, models.list_models())}")
    known = models.get_model_weights(name)
    if chosen and chosen not in known.__members__:
        raise InputError(f"{spec}: unknown weights; {nearest(chosen, list(known.__members__))}")
    weights = known[chosen] if chosen else known.DEFAULT
    _transforms(weights, rest)  # before anything is downloaded
    with one_line(spec):
        network = models.get_model(name, weights=weights if opening.weights is None else None)
    opening.fill(network)
    return of_torchvision(network, weights, rest)


def of_torchvision(network: nn.Module, weights: Any, name: str) -> Classifier:
    """Return the classifier of a network, prepared as the transforms of some weights do it.

    Raises:
        InputError: these are not the transforms of an image classifier.
    """
    said = _transforms(weights, name)
    crop, resize = said.crop_size[0], said.resize_size[0]
    spec = InputSpec((crop, crop), resize, (crop, crop), said.interpolation.value)
    module = Prepared(network, spec, said.mean, said.std, odd="round")
    classes = tuple(weights.meta.get("categories", ())) or None
    return Classifier.of(module, name, classes=classes, input=spec)


def _transforms(weights: Any, name: str) -> Any:
    said = weights.transforms()
    if type(said).__name__ != "ImageClassification":
        raise InputError(f"torchvision:{name}: no image classifier")
    return said
