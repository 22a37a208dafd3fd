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
    name, _, tag = rest.partition("@")
    if name not in models.list_models():
        raise InputError(f"{spec}: unknown; {nearest(name, models.list_models())}")
    available = models.get_model_weights(name)
    if tag and tag not in available.__members__:
        raise InputError(f"{spec}: unknown weights; {nearest(tag, list(available.__members__))}")
    weights = available[tag] if tag else available.DEFAULT
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
    transforms = _transforms(weights, name)
    crop, resize = transforms.crop_size[0], transforms.resize_size[0]
    spec = InputSpec((crop, crop), resize, (crop, crop), transforms.interpolation.value)
    module = Prepared(network, spec, transforms.mean, transforms.std, odd="round")
    classes = tuple(weights.meta.get("categories", ())) or None
    return Classifier.of(module, name, classes=classes, input=spec)


def _transforms(weights: Any, name: str) -> Any:
    transforms = weights.transforms()
    if type(transforms).__name__ != "ImageClassification":
        raise InputError(f"torchvision:{name}: no image classifier")
    return transforms
