"""Model files: those of `scotoma train`, TorchScript, torch.export and pickled modules."""

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

from scotoma.models.checkpoint import file_format, load_checkpoint, unpickled_model
from scotoma.models.classifier import Classifier
from scotoma.models.sources.opening import Opening
from scotoma.models.user_code import importing_from
from scotoma.utils.errors import InputError, reason


def file(rest: str, opening: Opening) -> Classifier:
    """FILE: safetensors from `scotoma train`, TorchScript; torch.export or a pickle if trusted."""
    path = Path(rest).expanduser()
    opening.only(str(path))
    if path.suffix == ".py" and path.is_file():
        raise InputError(f"{path}: name the function in it that builds the model: {path}:FUNCTION")
    if path.suffix == ".onnx" and path.is_file():
        raise InputError(f"{path}: an ONNX file; write onnx:{path}")
    if (path / "config.json").is_file():
        raise InputError(f"{path}: a folder with a config.json; write hf:{path}")
    match file_format(path):
        case "safetensors":
            module, card = load_checkpoint(path)
            return Classifier.of(module, path.stem, card)
        case "torchscript":
            module = _torchscript(path)
        case "export":
            module = _exported(path, opening.trust)
        case "pickle":
            with importing_from(Path.cwd()):
                return Classifier.of(unpickled_model(path, opening.trust), path.stem)
    # Such a program has constants that are neither parameters nor buffers, so the file is hashed.
    return replace(Classifier.of(module, path.stem), sha256=file_hash(path))


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _exported(path: Path, trusted: bool) -> nn.Module:
    if not trusted:
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
