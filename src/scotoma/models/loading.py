"""Models by name: a module, a file, code, or anything that `models.sources` opens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from scotoma.data.dataset import Dataset
from scotoma.models.checkpoint import save_checkpoint
from scotoma.models.classifier import Classifier
from scotoma.models.sources import SOURCES
from scotoma.models.sources.code import in_memory
from scotoma.models.sources.opening import Opening, Range
from scotoma.utils.errors import InputError

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

    >>> import torch
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
        return SOURCES["code"](str(spec), opening)
    if not rest:
        raise InputError(f"model {spec!r} names nothing; see `scotoma list sources`")
    return SOURCES[source](rest, opening)


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
