"""Opening encoded images: each is read once, hashed and checked; results are cached."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from scotoma.data.decoding import Header, decode, header
from scotoma.utils.cache import cache as cache_folder
from scotoma.utils.errors import InputError
from scotoma.utils.files import write_json
from scotoma.utils.threads import usable_cores

THREADS = min(8, usable_cores())
"""Pillow releases the interpreter's lock while it decodes, so that processes bring no more."""
TOGETHER = 64
"""Files in memory at once."""
SETTLED = 2.0
"""Seconds after which a second change of a file certainly has another time."""


class Files(Protocol):
    """Encoded images by number."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Return the name of an image for errors."""
        ...

    def key(self, index: int) -> str:
        """Return what the hash covers of an image besides its content."""
        ...

    def read(self, index: int) -> bytes:
        """Return the content. Raises `InputError` where it cannot be read."""
        ...


@dataclass
class Scan:
    """Result of opening encoded images.

    Args:
        sha256: hash of keys and contents.
        sizes: up to two different sizes, each as (width, height, number of an image).
        grey: whether no image has colour.
        left_out: the images that cannot be read, as (number, reason).
    """

    sha256: str = ""
    sizes: list[tuple[int, int, int]] = field(default_factory=list)
    grey: bool = True
    left_out: list[tuple[int, str]] = field(default_factory=list)


def scan(files: Files, skip: bool, one_size: bool) -> Scan:
    """Read all files once: hash them, and look at their headers.

    Args:
        files: the encoded images.
        skip: omit files that cannot be read, for which all are decoded; else they are an error.
        one_size: whether a second size is an error at once.

    Raises:
        InputError: a file cannot be read, or none can.
    """
    result, digest, turned = Scan(), hashlib.sha256(), False

    def look(index: int) -> tuple[bytes, Header] | str:
        name = files.name(index)
        try:
            content = files.read(index)
            outcome = header(content, name)
            if skip:
                decode(content, name)
        except InputError as error:
            if not skip:
                raise
            return str(error)
        return content, outcome

    for start in range(0, len(files), TOGETHER):
        numbers = range(start, min(start + TOGETHER, len(files)))
        for index, outcome in zip(numbers, pool().map(look, numbers), strict=True):
            if isinstance(outcome, str):
                result.left_out.append((index, outcome))
                continue
            content, head = outcome
            digest.update(f"{files.key(index)} {len(content)}\n".encode())
            digest.update(content)
            turned |= head.turned
            result.grey = result.grey and head.grey
            if len(result.sizes) < 2 and head.size not in [size[:2] for size in result.sizes]:
                result.sizes.append((*head.size, index))
            if one_size:
                refuse_several(files, result)
    if turned:  # the hash of earlier versions, which did not turn them, differs
        digest.update(b"upright\n")
    if not result.sizes:
        raise InputError(f"no image can be read; {result.left_out[0][1]}")
    result.sha256 = digest.hexdigest()
    return result


def refuse_several(files: Files, result: Scan) -> None:
    """Raise `InputError` for images of several sizes."""
    if len(result.sizes) > 1:
        (width, height, first), (other_width, other_height, other) = result.sizes
        raise InputError(
            f"{files.name(other)}: is {other_width}x{other_height} pixels, {files.name(first)} is "
            f"{width}x{height}; give size=224, or resize=256 with crop=224"
        )


def remembered(files: Any, skip: bool, one_size: bool) -> Scan:
    """Return the `scan` of files in a folder, from the user's cache if no file has changed.

    Arguments are those of `scan`; `files.state()` returns what changes if a file does.
    """
    state = files.state()
    key = hashlib.sha256(f"1 {skip}\n{state}".encode()).hexdigest()
    path = cache_folder() / "opened" / f"{key[:32]}.json"
    cached = _read(path)
    if cached is not None:
        if one_size:
            refuse_several(files, cached)
        return cached
    started = time.time()
    result = scan(files, skip, one_size)
    if newest(state) < started - SETTLED and files.state() == state:
        with suppress(OSError):  # a cache that cannot be written costs time, not the audit
            write_json(path, asdict(result))
    return result


def _read(path: Path) -> Scan | None:
    try:
        values = json.loads(path.read_text())
        sizes = [(int(size[0]), int(size[1]), int(size[2])) for size in values["sizes"]]
        left_out = [(int(number), str(cause)) for number, cause in values["left_out"]]
        return Scan(str(values["sha256"]), sizes, bool(values["grey"]), left_out)
    except (OSError, ValueError, TypeError, LookupError):
        return None


def newest(state: str) -> float:
    """Return the time of the last change of files, in seconds."""
    return max(int(line.rsplit(" ", 2)[1]) for line in state.split("\n")[1:]) / 1e9


@cache
def pool() -> ThreadPoolExecutor:
    """Return the threads that read and decode."""
    return ThreadPoolExecutor(THREADS, "decoding")
