"""Data sets fetched into the user's cache, checked by their hash."""

from __future__ import annotations

from pathlib import Path

from scotoma.utils.cache import cache
from scotoma.utils.errors import InputError


def download(name: str, url: str, file: str, sha256: str) -> Path:
    """Return the path of `url` + `file`, downloaded into the cache where it is not there yet.

    Raises:
        InputError: it cannot be downloaded, or its hash is wrong.
    """
    import pooch

    try:
        folder = cache() / name
        expected = f"sha256:{sha256}"
        return Path(pooch.retrieve(url + file, expected, file, folder, progressbar=True))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name}: {file} is not in $SCOTOMA_DATA and could not be downloaded "
            f"({type(error).__name__}); put the files of {url} into FOLDER/{name} and give "
            "root=FOLDER"
        ) from None
