"""The folder for downloads and trained models."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def cache() -> Path:
    """Return $SCOTOMA_CACHE, else the user's cache folder."""
    import pooch

    folder = os.environ.get("SCOTOMA_CACHE")
    return Path(folder).expanduser() if folder else Path(pooch.os_cache("scotoma"))


def cached(name: str, otherwise: Path) -> Path:
    """Return a folder of the cache, or of `otherwise` if the cache cannot be written."""
    folder = cache() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return otherwise / name
    return folder if os.access(folder, os.W_OK) else otherwise / name


SHIPPED = Path(__file__).parents[1] / "shipped"
"""Networks on the embedded digits that come with the package, in the folders of the cache."""


def kept(path: Path) -> Path:
    """Return the file KIND/KEY/NAME that the package ships, if any; else `path` in the cache.

    KEY is a fingerprint of the data and of how a network is trained.

    >>> kept(Path("cache/judges/no-such-key/judge.safetensors")).parts[0]
    'cache'
    """
    shipped = SHIPPED.joinpath(*path.parts[-3:])
    return shipped if shipped.exists() else path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a folder: a second process waits for the result of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def once(path: Path, make: Callable[[], object]) -> Path:
    """Return a path after `make` has written a file there, if no process has done so before."""
    if not path.exists():
        with alone(path.parent):
            if not path.exists():
                make()
    return path
