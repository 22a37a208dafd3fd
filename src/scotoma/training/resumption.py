"""The checkpoint of a training after an epoch, from which the same training continues."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scotoma.execution.store import write_whole
from scotoma.training.evaluation import Epoch
from scotoma.utils.errors import InputError


def save(
    path: Path,
    identity: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[Epoch],
) -> None:
    """Write the checkpoint whole or not at all; `identity` identifies the training, as JSON."""
    state = {
        "identity": json.dumps(identity),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": [asdict(line) for line in history],
    }
    content = io.BytesIO()
    torch.save(state, content)
    write_whole(path, content.getvalue())


def content(path: Path) -> bytes | None:
    """Return the content of the checkpoint; None if there is none."""
    return path.read_bytes() if path.exists() else None


def resume(
    content: bytes | None,
    path: Path,
    identity: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> list[Epoch]:
    """Restore model and optimizer and return the finished epochs; none without content.

    Raises:
        InputError: the content of `path` is broken or belongs to another training.
    """
    if content is None:
        return []
    try:
        state = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:
        raise InputError(
            f"{path}: the checkpoint cannot be read ({type(error).__name__}); delete it to start "
            "again"
        ) from None
    if not isinstance(state, dict) or state.get("identity") != json.dumps(identity):
        raise InputError(
            f"{path}: the checkpoint of another training; delete it or choose another out=FILE"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return [Epoch(**line) for line in state["history"]]
