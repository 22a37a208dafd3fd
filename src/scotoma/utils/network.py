"""Whether the hub of Hugging Face can be reached, tested before its libraries wait for it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

SECONDS = 3.0
"""Longest wait for an answer. The libraries of the hub try five times, for half a minute."""


def reachable(address: str, seconds: float = SECONDS) -> bool:
    """Return whether the host of an address, or the proxy to it, takes a connection.

    >>> reachable(f"http://{'a' * 64}")  # longer than a name can be
    False
    """
    parts = urlsplit(getproxies().get(urlsplit(address).scheme) or address)
    server = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    connections = []

    def connect() -> None:
        # a name that cannot be encoded is a UnicodeError
        with contextlib.suppress(OSError, UnicodeError), socket.create_connection(server, seconds):
            connections.append(True)

    # names are looked up without a limit of time, so not in this thread
    trial = threading.Thread(target=connect, daemon=True)
    trial.start()
    trial.join(seconds)
    return bool(connections)


def in_cache(name: str, revision: str | None = None) -> bool:
    """Return whether the hub's cache has the configuration of a model OWNER/NAME."""
    from huggingface_hub import try_to_load_from_cache

    try:
        path = try_to_load_from_cache(name, "config.json", revision=revision)
    except ValueError:  # no name that the hub could have
        return False
    return isinstance(path, str)


@contextlib.contextmanager
def hub_if_reachable() -> Iterator[bool]:
    """Keep the hub's libraries to their cache where the hub cannot be reached, and say whether."""
    if importlib.util.find_spec("huggingface_hub") is None:
        yield True
        return
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or reachable(os.environ.get("HF_ENDPOINT", constants.ENDPOINT)):
        yield True
        return
    modules: list[Any] = [constants, sys.modules.get("datasets.config")]
    before = [(module, module.HF_HUB_OFFLINE) for module in modules if module is not None]
    try:
        for module, _ in before:
            module.HF_HUB_OFFLINE = True
        yield False
    finally:
        for module, value in before:
            module.HF_HUB_OFFLINE = value
