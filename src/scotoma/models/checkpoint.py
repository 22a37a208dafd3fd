"""Weights on disk: our safetensors, which can be built again, and other state dicts."""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from scotoma.models import ARCHITECTURES
from scotoma.models.defences import DEFENCES
from scotoma.utils.errors import InputError, reason
from scotoma.utils.files import write_whole

KEY = "scotoma"

WRAPPINGS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts save the state dict."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""Prefixes of names by DataParallel, torch.compile and Lightning."""

BUILD = "give the code that builds the model: my_model.py:build weights="

Format = Literal["safetensors", "torchscript", "export", "pickle"]


def file_format(path: Path) -> Format:
    """Return the format of a file of a model or weights, by its content.

    Raises:
        InputError: it is neither, or it is truncated.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        raise InputError(
            f"{path}: is a folder; give a model file, file.py:FUNCTION or package.module:FUNCTION"
        )
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if head.startswith(b"PK\3\4"):
        return _zip_format(path)
    if path.suffix == ".safetensors" or head[8:] == b"{":
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] <= b"\5":
        return "pickle"
    raise InputError(
        f"{path}: not a model; give safetensors from `scotoma train`, file.py:FUNCTION, "
        "package.module:FUNCTION, TorchScript or torch.export"
    )


def _zip_format(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.partition("/")[2] or name for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError):
        raise InputError(f"{path}: cut short or damaged; copy it again") from None
    if "constants.pkl" in members and any(name.startswith("code/") for name in members):
        return "torchscript"
    if {"archive_format", "serialized_exported_program.json"} & members:
        return "export"
    if "data.pkl" in members:
        return "pickle"
    raise InputError(f"{path}: a zip file, but neither TorchScript, torch.export nor saved weights")


def save_checkpoint(
    path: Path, model: nn.Module, card: dict[str, Any], dtype: torch.dtype | None = None
) -> None:
    """Write the weights to a file, completely or not at all.

    Args:
        path: the .safetensors file.
        card: what `load_checkpoint` needs ("arch", "shape", "classes"; for a defence its name as
            "defence" and the card of its network as "network"), and other facts.
        dtype: type of floating-point weights in the file.
    """

    def stored(value: Tensor) -> Tensor:
        kind = dtype if dtype and value.is_floating_point() else value.dtype
        return value.detach().cpu().to(kind).contiguous()

    weights = {name: stored(value) for name, value in model.state_dict().items()}
    write_whole(path, save(weights, metadata={KEY: json.dumps(card)}))


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata; raise `InputError` if the file is truncated or not one."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({reason(error)})") from None


def load_checkpoint(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return a model that `scotoma train` or `scotoma defend` wrote, in float32, and its card.

    Raises:
        InputError: the file is no such model, or is damaged.
    """
    tensors, metadata = read_safetensors(path)
    if KEY not in metadata:
        raise InputError(f"{path}: has weights but no architecture; {BUILD}{path}")
    try:
        card = json.loads(metadata[KEY])
        model = _build(card)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{path}: its card is damaged ({type(error).__name__}: {reason(error)}); train it again"
        ) from None
    fit_weights(model, tensors, path)
    return model, card


def _build(card: dict[str, Any]) -> nn.Module:
    """Return the untrained model of a card, behind its defence if it has one."""
    if "defence" in card:
        return DEFENCES[card["defence"]](_build(card["network"]))
    arch, shape, classes = card["arch"], tuple(card["shape"]), card["classes"]
    if arch is None:
        raise InputError(
            "trained from code that is not in the file; give that code: "
            "my_model.py:build weights=FILE"
        )
    return ARCHITECTURES[arch](shape, classes)


def read_weights(path: Path, trust_pickle: bool = False) -> dict[str, Tensor]:
    """Return the state dict in a file of safetensors or of `torch.save`, also inside `WRAPPINGS`.

    Args:
        path: the file.
        trust_pickle: open pickles with more than tensors, which can run any code.

    Raises:
        InputError: it cannot be read, it is a pickle that needs trust, or it has no state dict.
    """
    match file_format(path):
        case "safetensors":
            return read_safetensors(path)[0]
        case "pickle":
            return _state_dict(unpickle(path, trust_pickle), path)
        case kind:
            raise InputError(
                f"{path}: is a whole model ({kind}), not weights; give it as the model, "
                "without weights=FILE"
            )


def unpickled_model(path: Path, trust_pickle: bool) -> nn.Module:
    """Return the module that was saved whole with `torch.save`, also inside `WRAPPINGS`.

    Raises:
        InputError: it needs trust, or holds weights without code or something else.
    """
    content = unpickle(path, trust_pickle)
    if isinstance(content, Mapping):
        wrapped = (content.get(key) for key in WRAPPINGS)
        content = next((each for each in wrapped if isinstance(each, nn.Module)), content)
    if isinstance(content, nn.Module):
        return content
    _state_dict(content, path)
    raise InputError(f"{path}: a pickle of weights, without code; {BUILD}{path}")


def unpickle(path: Path, trust_pickle: bool) -> Any:
    """Return what a pickle holds: tensors and plain values, or anything if it is trusted.

    Raises:
        InputError: it cannot be read, or needs trust.
    """
    try:
        with warnings.catch_warnings():
            # of other pickle protocols; an error follows if they matter
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        match = re.search(r"GLOBAL ([\w.]+)", str(error))
        if trust_pickle or not match:
            raise InputError(
                f"{path}: a pickle, but not a whole file of `torch.save`; save model.state_dict()"
            ) from None
        raise InputError(
            f"{path}: a pickle with {match[1]}, not only tensors, can run any code when it is "
            "opened; if you trust it, add trust_pickle=True"
        ) from None
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{path}: the code of its model cannot be imported ({reason(error)}); run in the "
            f"folder of that code, or save model.state_dict() and {BUILD}FILE"
        ) from None
    except Exception as error:  # a trusted pickle may raise anything
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}: {reason(error)})"
        ) from None


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if isinstance(content, Mapping):
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return dict(content)
        for key in WRAPPINGS:
            if isinstance(content.get(key), Mapping | nn.Module):
                return _state_dict(content[key], path)
        actual = f"keys {', '.join(map(str, list(content)[:5]))}" if content else "nothing"
    else:
        actual = type(content).__name__
    raise InputError(f"{path}: has no state dict but {actual}; save model.state_dict()")


def fit_weights(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load `tensors` into `model`; raise `InputError` with the first tensor that does not fit."""
    state = model.state_dict().items()
    own = {name: value for name, value in state if isinstance(value, Tensor)}
    for prefix in PREFIXES:
        ours, theirs = (all(name.startswith(prefix) for name in each) for each in (own, tensors))
        if tensors and theirs and not ours:
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    problems = [f"lacks {name}" for name in own if name not in tensors]
    problems += [f"has {name}, which the model has not" for name in tensors if name not in own]
    problems += [
        f"{name} is {tuple(value.shape)}, the model's {tuple(own[name].shape)}"
        for name, value in tensors.items()
        if name in own and not _is_open(own[name]) and value.shape != own[name].shape
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"{path}: the tensors do not fit the architecture: {problems[0]}{more}")
    try:
        fitted = {
            name: value if _is_open(own[name]) else value.to(own[name].dtype)
            for name, value in tensors.items()
        }
        model.load_state_dict(fitted)
    except RuntimeError as error:
        raise InputError(
            f"{path}: the tensors do not fit the architecture: {reason(error)}"
        ) from None


def _is_open(tensor: Tensor) -> bool:
    """Return whether the file decides the shape, as for lazy layers and stored images."""
    return is_lazy(tensor) or tensor.numel() == 0
