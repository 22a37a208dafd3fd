"""The checkpoint of a training after an epoch, from which the same training continues."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scotoma.models.checkpoint import KEY, read_safetensors
from scotoma.training.evaluation import Epoch
from scotoma.utils.errors import InputError
from scotoma.utils.files import write_whole

NAMED = 3
"""Most differences of two trainings that an error names."""
LONGEST = 20
"""Most characters of a value in it."""


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


def card(path: Path) -> dict[str, Any] | None:
    """Return the card of a finished model, with `half` for float16; None if there is no file.

    It is empty if the file is something else.
    """
    if not path.exists():
        return None
    try:
        tensors, metadata = read_safetensors(path)
        said = json.loads(metadata.get(KEY, "{}"))
    except (InputError, ValueError):
        return {}
    return said | {"half": any(each.dtype == torch.float16 for each in tensors.values())}


def is_finished(card: dict[str, Any] | None, identity: dict[str, Any], path: Path) -> bool:
    """Return whether the card of `path` is that of the training `identity`; False if it is None.

    Raises:
        InputError: the file belongs to another training.
    """
    if card is None:
        return False
    mine, theirs = (_flat(each) for each in (json.loads(json.dumps(identity)), card))
    differ = [key for key in mine if theirs.get(key) != mine[key]]
    if not differ:
        return True
    named = [
        f"{key} {_short(theirs[key])}, not {_short(mine[key])}"
        for key in differ
        if key in theirs and not key.endswith("sha256")
    ]
    why = f" ({'; '.join(named[:NAMED])})" if named else ""
    raise InputError(
        f"{path}: exists and is not this training{why}; choose another out=FILE, or delete it"
    )


def _flat(card: dict[str, Any]) -> dict[str, Any]:
    """Return a card with the settings of the schedule and of the recipe under their own names."""
    inner = [each for key in ("schedule", "options") if isinstance(each := card.get(key), dict)]
    outer = {key: value for key, value in card.items() if key not in ("schedule", "options")}
    return {key: value for each in (*inner, outer) for key, value in each.items()}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


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
