"""How an audit was made: device, versions, and what its probes say of their options."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from scotoma._version import __version__


def machine(device: torch.device | str) -> dict[str, Any]:
    """Return the device, the threads and the versions of the installed packages."""
    versions = {"scotoma": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "scipy", "polars", "faiss-cpu", "openTSNE"):
        with suppress(PackageNotFoundError):  # only some probes need faiss and openTSNE
            versions[package] = version(package)
    return {"device": str(device), "threads": torch.get_num_threads(), "versions": versions}


def merged(facts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the facts of all probes; dictionaries under the same name are joined."""
    merged: dict[str, Any] = {}
    for key, value in (item for each in facts for item in each.items()):
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    return merged
