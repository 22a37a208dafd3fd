"""Models from modules, our safetensors, code, TorchScript or torch.export."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from scotoma.data.dataset import Dataset
from scotoma.models.checkpoint import (
    file_format,
    fit_weights,
    load_checkpoint,
    read_weights,
    save_checkpoint,
)
from scotoma.models.classifier import Classifier
from scotoma.models.defences import DEFENCES, defend
from scotoma.models.defences.base import Fitted
from scotoma.models.error_summary import reason
from scotoma.utils.errors import InputError

DEFENDED = "defence:"
FITTING_IMAGES = 10_000
"""Training images for the fitting of a defence, which then takes seconds on a small network."""

ModelLike = nn.Module | Classifier | str
"""Models that `load_model` accepts."""


def load_model(
    spec: ModelLike,
    weights: str | Path | None = None,
    *,
    trust_pickle: bool = False,
    data: Dataset | None = None,
) -> Classifier:
    """Load a model, freeze it and set eval mode.

    Args:
        spec: a module or classifier; a file from `scotoma train`, TorchScript or torch.export;
            "path/to/file.py:function" or "package.module:function", which returns the module;
            "defence:NAME:MODEL", another model behind a defence of `DEFENCES`.
        weights: file of safetensors or a saved state dict for the module.
        trust_pickle: open files that can run code (torch.export, pickles with more than tensors).
        data: data set on whose training images a defence is fitted, if it needs that.

    Returns:
        A `Classifier` with the name of the file, "file.py:function", or the class of the module.

    Raises:
        InputError: there is no such model, or it cannot be read.

    >>> model = load_model(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    >>> model.name, model.module(torch.rand(3, 1, 2, 2)).shape
    ('Sequential', torch.Size([3, 2]))
    """
    if isinstance(spec, Classifier):
        if weights is not None:
            raise InputError(
                f"{weights}: model {spec.name} has weights already; weights=FILE goes with "
                "file.py:FUNCTION"
            )
        return spec
    if isinstance(spec, nn.Module):
        module, name = spec, None
    elif str(spec).startswith(DEFENDED):
        return _defended(str(spec), weights, trust_pickle, data)
    else:
        path = Path(spec).expanduser()
        if path.exists() or ":" not in str(spec):
            if weights is not None:
                raise InputError(
                    f"{path}: contains its weights; weights=FILE goes with file.py:FUNCTION"
                )
            return _from_file(path, trust_pickle)
        from scotoma.models.user_code import build

        module, name = build(spec)
    if weights is not None:
        path = Path(weights).expanduser()
        fit_weights(module, read_weights(path, trust_pickle), path)
    return Classifier.of(module, name)


def _defended(
    spec: str, weights: str | Path | None, trust_pickle: bool, data: Dataset | None
) -> Classifier:
    """Return the model of "defence:NAME:MODEL"."""
    name, _, inner = spec.removeprefix(DEFENDED).partition(":")
    kind = DEFENCES[name]
    if not inner:
        raise InputError(f"model {spec!r} names no network; write {DEFENDED}{name}:MODEL")
    network = load_model(inner, weights, trust_pickle=trust_pickle, data=data)
    images = labels = None
    if issubclass(kind, Fitted) and data is not None and data.train is not None:
        rows = torch.arange(min(FITTING_IMAGES, len(data.train)))
        images, labels = data.train.images(rows), data.train.labels[rows]
    defended = defend(name, network.module, images, labels)
    return Classifier.of(
        defended, f"{name}:{network.name}", {"defence": name, "network": network.card}
    )


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
            f"again; audit it as {DEFENDED}NAME:MODEL"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, model.module, model.card)


def _from_file(path: Path, trust_pickle: bool) -> Classifier:
    if path.suffix == ".py" and path.is_file():
        raise InputError(f"{path}: name the function in it that builds the model: {path}:FUNCTION")
    match file_format(path):
        case "safetensors":
            module, card = load_checkpoint(path)
            return Classifier.of(module, path.stem, card)
        case "torchscript":
            module = _torchscript(path)
        case "export":
            module = _exported(path, trust_pickle)
        case "pickle":
            raise InputError(
                f"{path}: a pickle of weights or of a model, without code; "
                f"give the code that builds the model: my_model.py:build weights={path}"
            )
    # Such a program has constants that are neither parameters nor buffers, so the file is hashed.
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return replace(Classifier.of(module, path.stem), sha256=sha256)


def _torchscript(path: Path) -> nn.Module:
    with warnings.catch_warnings():
        # torch advises to use torch.export instead.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return torch.jit.load(path, map_location="cpu")
        except Exception as error:
            raise InputError(
                f"{path}: this TorchScript file cannot be loaded ({reason(error)})"
            ) from None


def _exported(path: Path, trust_pickle: bool) -> nn.Module:
    if not trust_pickle:
        # torch.export.load reads some entries with pickle and evaluates size expressions as Python.
        raise InputError(
            f"{path}: a torch.export file can run any code when it is opened; "
            "if you trust it, add trust_pickle=True"
        )
    try:
        with path.open("rb") as file, _quiet_logs():
            return torch.export.load(file).module()
    except Exception as error:
        raise InputError(
            f"{path}: this torch.export file cannot be loaded ({reason(error)})"
        ) from None


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Silence torch.export, which logs the stack trace of an error before it raises it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
