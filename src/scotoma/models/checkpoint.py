"""Weights on disk: safetensors, with what is needed to build the model again in the metadata."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from scotoma.errors import InputError
from scotoma.models import ARCHITECTURES

KEY = "scotoma"


def save_checkpoint(path: Path, model: nn.Module, card: dict[str, Any], dtype: torch.dtype | None = None) -> None:
    """Write the weights whole or not at all.

    Args:
        path: the .safetensors file.
        card: what `load_checkpoint` needs ("arch", "shape", "classes") and whatever else should travel with the weights.
        dtype: store floating-point weights in this type.
    """
    weights = {
        name: value.detach().cpu().to(dtype if dtype and value.is_floating_point() else value.dtype).contiguous()
        for name, value in model.state_dict().items()
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(weights, temporary, metadata={KEY: json.dumps(card)})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata. Raises `InputError` when the file is truncated or something else."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({error})") from None


def load_checkpoint(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A model that `scotoma train` wrote, in float32, and its card."""
    tensors, metadata = read_safetensors(path)
    if KEY not in metadata:
        raise InputError(
            f"{path}: holds weights alone, without an architecture; give the code that builds the model: "
            f"my_model.py:build --weights {path}"
        )
    card = json.loads(metadata[KEY])
    model = ARCHITECTURES[card["arch"]](tuple(card["shape"]), card["classes"])
    fit_weights(model, tensors, path)
    return model, card


def fit_weights(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load `tensors` into `model`. Raises `InputError` naming the first tensor that does not fit."""
    wanted = model.state_dict()
    problems = [f"lacks {name}" for name in wanted if name not in tensors]
    problems += [f"has {name}, which the model has not" for name in tensors if name not in wanted]
    problems += [
        f"{name} is {tuple(value.shape)}, the model's {tuple(wanted[name].shape)}"
        for name, value in tensors.items()
        if name in wanted and value.shape != wanted[name].shape
    ]
    if problems:
        rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"{path}: the tensors do not fit the architecture: {problems[0]}{rest}")
    model.load_state_dict({name: value.to(wanted[name].dtype) for name, value in tensors.items()})
