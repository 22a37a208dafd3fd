"""A model and data that fit each other: size of images, channels and order of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.data.matching import by_number, in_colour, matched
from scotoma.models.checking import device
from scotoma.models.classifier import Classifier
from scotoma.models.loading import DEFENDED, ModelLike, load_model
from scotoma.utils.errors import InputError


def load_pair(
    model: ModelLike,
    data: str | Dataset,
    root: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    trust_pickle: bool = False,
    value_range: str | None = None,
    outputs: str | None = None,
    **images: Any,
) -> tuple[Classifier, Dataset]:
    """Load a model and data, with images of the size that the model's configuration asks for.

    Args:
        model, weights, trust_pickle, value_range, outputs: as in `load_model`.
        data, root, images: as in `load_data`; its options override what the model asks for.

    Raises:
        InputError: one of them cannot be loaded.

    >>> network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> model, data = load_pair(network, "digits")
    >>> model.name, data.name
    ('Sequential', 'digits')
    """
    loaded = None
    if str(model).startswith(DEFENDED):  # its fitting needs the training images
        loaded = load_data(data, root, **images)
    classifier = load_model(
        model,
        weights,
        trust_pickle=trust_pickle,
        data=loaded,
        value_range=value_range,
        outputs=outputs,
    )
    return classifier, loaded or load_data(data, root, model=classifier.input, **images)


def fitted(data: Dataset, model: Classifier) -> Dataset:
    """Return data whose images and class numbers mean to the model what they mean to the data.

    Grey images get three channels for a model of colour images, and classes are numbered as the
    outputs of the model; the notes of the data say so. What fits already is returned unchanged.

    Raises:
        InputError: the model takes grey images and these have colour, or it knows some classes by
            name and others not.

    >>> import scotoma
    >>> model = Classifier.of(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 10)))
    >>> fitted(scotoma.load_data("digits"), model).shape
    (3, 8, 8)
    """
    first = data.test.images(torch.arange(1)).to(device(model.module))
    outputs = _outputs(model.module, first)
    if outputs is None and data.shape[0] == 1:
        outputs = _outputs(model.module, first.repeat(1, 3, 1, 1))
        if outputs is not None:
            note = f"Grey images of {data.name} have three equal channels for model {model.name}."
            data = in_colour(data, note)
    elif outputs is None and data.shape[0] == 3 and _outputs(model.module, first[:, :1]):
        raise InputError(
            f"model {model.name} takes grey images of one channel, and those of {data.name} have "
            "colour; convert the files to grey"
        )
    named = f"model {model.name}"
    if model.classes is not None:
        return matched(data, model.classes, named)
    return data if outputs is None else by_number(data, outputs, named)


@torch.no_grad()
def _outputs(module: nn.Module, images: Tensor) -> int | None:
    """Return the number of outputs; None if the model does not take these images."""
    with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
        try:
            logits = module(images.clone())
        except Exception:  # `Classifier.checked` says what is wrong
            return None
    return logits.shape[1] if isinstance(logits, Tensor) and logits.ndim == 2 else None
