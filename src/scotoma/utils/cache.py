"""The folder for downloads and trained models."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """Return $SCOTOMA_CACHE, else the user's cache folder."""
    import pooch

    folder = os.environ.get("SCOTOMA_CACHE")
    return Path(folder).expanduser() if folder else Path(pooch.os_cache("scotoma"))
