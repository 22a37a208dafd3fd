"""Where downloads and trained models are kept for the next time."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """$SCOTOMA_CACHE, else the user's cache folder."""
    import pooch

    given = os.environ.get("SCOTOMA_CACHE")
    return Path(given).expanduser() if given else Path(pooch.os_cache("scotoma"))
