"""Whether the hub of Hugging Face can be reached, found out before its libraries wait."""

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
    place = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    answered = []

    def connect() -> None:
        # a name that cannot be encoded is a UnicodeError
        with contextlib.suppress(OSError, UnicodeError), socket.create_connection(place, seconds):
            answered.append(True)

    # names are looked up without a limit of time, so not in this thread
    trial = threading.Thread(target=connect, daemon=True)
    trial.start()
    trial.join(seconds)
    return bool(answered)


def in_cache(name: str, revision: str | None = None) -> bool:
    """Return whether the hub's cache has the configuration of a model OWNER/NAME."""
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(name, "config.json", revision=revision)
    except ValueError:  # no name that the hub could have
        return False
    return isinstance(found, str)


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
    places: list[Any] = [constants, sys.modules.get("datasets.config")]
    before = [(place, place.HF_HUB_OFFLINE) for place in places if place is not None]
    try:
        for place, _ in before:
            place.HF_HUB_OFFLINE = True
        yield False
    finally:
        for place, value in before:
            place.HF_HUB_OFFLINE = value
