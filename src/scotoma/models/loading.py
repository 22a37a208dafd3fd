"""Loading a model from whatever the user has: a module, our safetensors, code, TorchScript or torch.export."""

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

from scotoma.models.checkpoint import file_format, fit_weights, load_checkpoint, read_weights
from scotoma.models.classifier import Classifier
from scotoma.models.error_summary import reason
from scotoma.utils.errors import InputError

ModelLike = nn.Module | Classifier | str
"""What `load_model` reads."""


def load_model(
    spec: ModelLike,
    weights: str | Path | None = None,
    *,
    trust_pickle: bool = False,
) -> Classifier:
    """A model, frozen and in eval mode.

    Args:
        spec: a module or classifier; a file that `scotoma train` wrote; `path/to/file.py:function` or
            `package.module:function`, where function() returns the module; a TorchScript or torch.export file.
        weights: safetensors or a saved state dict for the module that the code builds, or for the module given.
        trust_pickle: open files that can run code when they are opened (pickles of more than tensors, torch.export).

    Returns:
        A `Classifier` named after the file (without suffix), "file.py:function" or the module's class.

    Raises:
        InputError: there is no such thing, it cannot be read, or it is not a model.
    """
    if isinstance(spec, Classifier):
        if weights is not None:
            raise InputError(
                f"{weights}: model {spec.name} has its weights already; --weights goes with file.py:FUNCTION"
            )
        return spec
    if isinstance(spec, nn.Module):
        module, name = spec, None
    else:
        path = Path(spec).expanduser()
        if path.exists() or ":" not in str(spec):
            if weights is not None:
                raise InputError(
                    f"{path}: has its weights inside; --weights goes with code: file.py:FUNCTION --weights FILE"
                )
            return _from_file(path, trust_pickle)
        from scotoma.models.user_code import build

        module, name = build(spec)
    if weights is not None:
        path = Path(weights).expanduser()
        fit_weights(module, read_weights(path, trust_pickle), path)
    return Classifier.of(module, name)


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
                f"{path}: a pickle of weights or of a whole model, without the code; give the code that builds the model: "
                f"my_model.py:build --weights {path}"
            )
    # Such a program holds constants that are neither parameters nor buffers: only the file has them all.
    with path.open("rb") as file:
        return replace(
            Classifier.of(module, path.stem), sha256=hashlib.file_digest(file, "sha256").hexdigest()
        )


def _torchscript(path: Path) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # torch advises its users to export; this file is there
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
            f"{path}: a torch.export file can run any code when it is opened; if you trust it, add --trust-pickle"
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
    """torch.export logs whole stack traces before it raises them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
