"""Objects of the MAITE image-classification protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from scotoma.models.black_box import BlackBox
from scotoma.models.classifier import Classifier
from scotoma.models.hashing import callable_hash
from scotoma.models.sources.opening import Opening
from scotoma.models.user_code import function, run
from scotoma.utils.errors import InputError


def maite(rest: str, opening: Opening) -> Classifier:
    """MODULE:OBJECT or FILE.py:OBJECT: an object of MAITE's image-classification protocol 0.10."""
    opening.only(f"maite:{rest}", "range", "outputs")
    if ":" not in rest:
        raise InputError(f"model 'maite:{rest}': want maite:MODULE:OBJECT or maite:FILE.py:OBJECT")
    with function(rest, "MAITE model") as (target, _):
        is_maker = isinstance(target, type) or not hasattr(target, "metadata")
        model: Any = run(target, f"{rest}()") if is_maker else target
    return of_protocol(model, rest, opening)


def of_protocol(model: Any, name: str, opening: Opening) -> Classifier:
    """Return the classifier of an object of the protocol.

    It gets a list of float32 arrays (c, h, w) and returns a sequence of arrays (classes,). The
    protocol declares neither the range of pixels nor whether these are logits.

    Raises:
        InputError: the object is not of the protocol.
    """
    metadata = getattr(model, "metadata", None)
    if (
        not callable(model)
        or not isinstance(metadata, Mapping)
        or not isinstance(metadata.get("id"), str)
    ):
        raise InputError(
            f"{name}: {type(model).__name__} is no MAITE model; want a callable with "
            "metadata = {'id': NAME}"
        )
    module = BlackBox(Batched(model), opening.range, opening.outputs, asks=True)
    module.content = callable_hash(model)
    labels = metadata.get("index2label")
    classes = _names(labels) if isinstance(labels, Mapping) else None
    return Classifier.of(module, metadata["id"], classes=classes)


class Batched:
    """A model of the protocol as a function from images (n, c, h, w) to an array (n, classes)."""

    def __init__(self, model: Any):
        self.model = model

    def __call__(self, images: Tensor) -> np.ndarray:
        answers = self.model([image.numpy() for image in images])
        return np.stack([np.asarray(each, dtype=np.float32) for each in answers])


def _names(labels: Mapping[int, str]) -> tuple[str, ...] | None:
    """Return the names in the order of the classes; None if a class has none."""
    names = {int(number): str(text) for number, text in labels.items()}
    numbers = range(len(names))
    return tuple(names[number] for number in numbers) if names.keys() == {*numbers} else None
