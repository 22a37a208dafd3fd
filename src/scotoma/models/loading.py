"""Models by name, alone or with the data that they fit: a module, a file, code, or any source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.data.matching import by_number, in_colour, matched
from scotoma.models.checking import device
from scotoma.models.checkpoint import save_checkpoint
from scotoma.models.classifier import Classifier
from scotoma.models.sources import SOURCES
from scotoma.models.sources.code import in_memory
from scotoma.models.sources.opening import Opening, Range
from scotoma.utils.errors import InputError
from scotoma.utils.random import own_numbers
from scotoma.utils.registry import nearest

DEFENDED = "defence:"
"""Prefix of models behind a defence, whose fitting needs training images."""
ModelLike = nn.Module | Classifier | str | Callable[..., Any]
"""Models that `load_model` accepts."""


def load_model(
    spec: ModelLike,
    weights: str | Path | None = None,
    *,
    trust_pickle: bool = False,
    data: Dataset | None = None,
    value_range: str | Range | None = None,
    outputs: str | None = None,
) -> Classifier:
    """Load a model, freeze it and set eval mode.

    Args:
        spec: a module or classifier; a file from `scotoma train`, TorchScript or torch.export;
            "path/to/file.py:function" or "package.module:function", which returns the module;
            "SOURCE:NAME" with a source of `models.sources.SOURCES`, as in "hf:OWNER/NAME",
            "onnx:FILE" or "defence:NAME:MODEL"; or a callable from images to logits.
        weights: file of safetensors or a saved state dict for the module.
        trust_pickle: open files that can run code (torch.export, pickles with more than tensors).
        data: data set on whose training images a defence is fitted, if it needs that.
        value_range: values of black and white that a black box takes, "0:255" or (-1, 1); None
            means that it is found out, and that a callable takes [0, 1].
        outputs: what a black box returns, "logits" or "probabilities"; None means that it is found
            out.

    Returns:
        A `Classifier` with the name of the file, "file.py:function", or the class of the module.

    Raises:
        InputError: there is no such model, or it cannot be read.

    >>> model = load_model(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    >>> model.name, model(torch.rand(3, 1, 2, 2)).shape
    ('Sequential', torch.Size([3, 2]))
    """
    opening = Opening.of(weights, trust_pickle, data, value_range, outputs)
    return open_model(spec, opening)


def open_model(spec: ModelLike, opening: Opening) -> Classifier:
    """Open a model; see `load_model`."""
    if isinstance(spec, Classifier):
        if opening.weights is not None:
            raise InputError(
                f"{opening.weights}: model {spec.name} has weights already; weights=FILE goes with "
                "file.py:FUNCTION"
            )
        opening.only(spec.name)
        return spec
    if not isinstance(spec, str | Path):
        return in_memory(spec, opening)
    source, colon, rest = str(spec).partition(":")
    if Path(spec).expanduser().exists() or not colon:
        return SOURCES["file"](str(spec), opening)
    if source in ("file", "code") or source not in SOURCES:
        return _code(str(spec), opening)
    if not rest:
        raise InputError(f"model {spec!r} names nothing; see `scotoma list sources`")
    return SOURCES[source](rest, opening)


def _code(spec: str, opening: Opening) -> Classifier:
    """Open a model of the user's code; a module that is missing may be a misspelt source."""
    try:
        return SOURCES["code"](spec, opening)
    except InputError as error:
        module = spec.partition(":")[0]
        missing = isinstance(error.__cause__, ModuleNotFoundError) and error.__cause__.name
        if missing != module:
            raise
        prefixes = [source for source in SOURCES if source not in ("file", "code")]
        raise InputError(
            f"model {spec!r}: {module!r} is neither a module that can be imported nor a source of "
            f"models; {nearest(module, prefixes)}"
        ) from None


def save_defended(path: Path, model: Classifier) -> None:
    """Write a model of "defence:NAME:MODEL" to a file, so that it need not be fitted again.

    Raises:
        InputError: its network comes from code, which the file could not build again.
    """
    card = model.card
    while "defence" in card:
        card = card["network"]
    if not card.get("arch"):
        raise InputError(
            f"model {model.name} is not from a file of `scotoma train`, so no file can build it "
            "again; audit it as defence:NAME:MODEL"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, model.module, model.card)


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
    """Return the data with channels and class numbers that fit the model.

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
    image = data.test.images(torch.arange(1)).to(device(model.module))
    outputs = _outputs(model.module, image)
    if outputs is None and data.shape[0] == 1:
        outputs = _outputs(model.module, image.repeat(1, 3, 1, 1))
        if outputs is not None:
            note = f"Grey images of {data.name} have three equal channels for model {model.name}."
            data = in_colour(data, note)
    elif outputs is None and data.shape[0] == 3 and _outputs(model.module, image[:, :1]):
        raise InputError(
            f"model {model.name} takes grey images of one channel, and those of {data.name} have "
            "colour; convert the files to grey"
        )
    name = f"model {model.name}"
    if model.classes is not None:
        return matched(data, model.classes, name)
    return data if outputs is None else by_number(data, outputs, name)


@torch.no_grad()
def _outputs(module: nn.Module, images: Tensor) -> int | None:
    """Return the number of outputs; None if the model does not take these images."""
    with own_numbers():
        try:
            logits = module(images.clone())
        except Exception:  # `Classifier.checked` says what is wrong
            return None
    return logits.shape[1] if isinstance(logits, Tensor) and logits.ndim == 2 else None
