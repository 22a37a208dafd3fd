"""How an audit was made: device, versions, options of its probes, and the call that repeats it."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from scotoma._version import __version__
from scotoma.data.dataset import Dataset
from scotoma.data.memory import Images, source_name
from scotoma.execution.effort import is_default
from scotoma.threat import Threat


def machine(device: torch.device | str) -> dict[str, Any]:
    """Return the device, the threads and the versions of the installed packages."""
    versions = {"scotoma": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "scipy", "polars", "faiss-cpu", "openTSNE"):
        with suppress(PackageNotFoundError):  # only some probes need faiss and openTSNE
            versions[package] = version(package)
    return {"device": str(device), "threads": torch.get_num_threads(), "versions": versions}


def merged(facts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the facts of all probes; dictionaries under the same name are joined."""
    joined: dict[str, Any] = {}
    for key, value in (item for each in facts for item in each.items()):
        joined[key] = {**joined.get(key, {}), **value} if isinstance(value, dict) else value
    return joined


def repeat(
    model: Any,
    data: str | Dataset | Images,
    threat: Threat,
    train: Images | str | Dataset | None = None,
    **options: Any,
) -> str:
    """Return the Python call that repeats an audit, without options that are None or empty."""
    arguments = {"data": _source(data), "threat": repr(str(threat))}
    arguments |= {"train": _source(train)} if train is not None else {}
    given_options = {key: value for key, value in options.items() if value not in (None, (), [])}
    arguments |= {key: _as_code(value) for key, value in given_options.items()}
    settings = "".join(f", {key}={value}" for key, value in arguments.items())
    return f"scotoma.audit({_as_code(model)}{settings})"


def _source(data: str | Dataset | Images) -> str:
    if isinstance(data, str):
        return repr(data)
    if isinstance(data, Dataset):
        return repr(data.name)
    name = source_name(data)
    return "(images, labels)" if name == "tensors" else name


def _as_code(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_as_code, value))}]"
    if isinstance(value, str | int | float):
        return repr(value)
    if is_dataclass(value) and not hasattr(value, "name"):  # a probe, or the settings of an attack
        options = [each.name for each in fields(value) if not is_default(value, each.name)]
        inside = ", ".join(f"{key}={_as_code(getattr(value, key))}" for key in options)
        return f"{type(value).__name__}({inside})"
    return getattr(value, "name", type(value).__name__)
