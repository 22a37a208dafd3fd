"""Image classifiers of the library timm."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from scotoma.data.input import InputSpec
from scotoma.models.classifier import Classifier
from scotoma.models.preparation import Prepared
from scotoma.models.sources.opening import Opening, one_line
from scotoma.utils.errors import InputError
from scotoma.utils.optional import require
from scotoma.utils.registry import nearest

INSTALL = "torch==2.14.1 torchvision==0.29.1 timm"


def timm(rest: str, opening: Opening) -> Classifier:
    """NAME[@TAG]: a network of timm with its pretrained weights, or with weights=FILE."""
    spec = f"timm:{rest}"
    opening.only(spec, "weights")
    timm = require("timm", "model timm:NAME", INSTALL)
    name, _, tag = rest.partition("@")
    if name not in timm.list_models() and not name.startswith("hf-hub:"):
        raise InputError(f"{spec}: unknown; {nearest(name, timm.list_models())}")
    with one_line(spec):
        network = timm.create_model(
            f"{name}.{tag}" if tag else name, pretrained=opening.weights is None
        )
    opening.fill(network)
    return of_timm(network, rest)


def of_timm(network: nn.Module, name: str) -> Classifier:
    """Return the classifier of a network of timm, prepared as its `pretrained_cfg` says.

    Raises:
        InputError: its images are cropped in a way that is unknown here.
    """
    data: Any = require("timm.data", "model timm:NAME", INSTALL)
    config = data.resolve_data_config({}, model=network)
    size = (int(config["input_size"][1]), int(config["input_size"][2]))
    scaled = [math.floor(side / config["crop_pct"]) for side in size]
    if config["crop_mode"] == "squash":
        resize: int | tuple[int, int] = (scaled[0], scaled[1])
    elif config["crop_mode"] == "center" and size[0] == size[1]:
        resize = scaled[0]
    else:
        raise InputError(
            f"timm:{name}: images are prepared with crop_mode {config['crop_mode']!r} at "
            f"{size[0]}x{size[1]}, which is unknown here; audit it as file.py:FUNCTION"
        )
    spec = InputSpec(size, resize, size, config["interpolation"])
    module = Prepared(network, spec, config["mean"], config["std"], odd="round")
    return Classifier.of(module, name, classes=_classes(network, data), input=spec)


def _classes(network: nn.Module, data: Any) -> tuple[str, ...] | None:
    """Return the names of the classes, where timm has as many as the network has outputs."""
    config: dict[str, Any] = getattr(network, "pretrained_cfg", {})
    if config.get("label_names"):
        return tuple(map(str, config["label_names"]))
    subset = data.infer_imagenet_subset(network)
    if not subset:
        return None
    info = data.ImageNetInfo(subset)
    return tuple(info.index_to_description(number) for number in range(info.num_classes()))
