"""CIFAR-10 in the files that its author published: pickles, of which nothing but plain data is accepted."""

from __future__ import annotations

import io
import lzma
import os
import pickle
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from scotoma.data.dataset import ArraySplit, Dataset, from_splits
from scotoma.utils.cache import cache
from scotoma.utils.errors import InputError

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-python.tar.xz", "cifar-10-python.tar")
FOLDER = "cifar-10-batches-py"
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = (3, 32, 32)

Batch = tuple[np.ndarray, np.ndarray]


def cifar10(root: Path | None = None) -> Dataset:
    """CIFAR-10 photographs, 32x32 in colour: 50,000 for training, 10,000 for testing (Krizhevsky 2009).

    Read in place from `root/cifar-10`: the archive (tar.gz, tar.xz or tar) or the folder that it unpacks to. Without it the
    archive is downloaded into the user's cache and checked.
    """
    path = _locate(root)
    batches = _read_folder(path) if path.is_dir() else _read_archive(path)
    images, labels = (
        np.concatenate(parts) for parts in zip(*(batches[name] for name in TRAIN), strict=True)
    )
    return from_splits(
        "cifar-10",
        ArraySplit(images, labels, "cifar-10"),
        ArraySplit(*batches[TEST], "cifar-10"),
        CLASSES,
    )


def parse_batch(content: bytes, source: str) -> Batch:
    """Images uint8 (n, 3, 32, 32) and labels int64 (n,) of one pickled batch.

    Raises:
        InputError: it is no such batch, or holds anything but dictionaries, lists, numbers, strings and arrays.
    """
    try:
        held = _PlainData(io.BytesIO(content), encoding="bytes").load()
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise InputError(
            f"{source}: not a whole pickle ({type(error).__name__}); fetch it again"
        ) from None
    pixels, labels = (
        (held.get(key) for key in (b"data", b"labels")) if isinstance(held, dict) else (None, None)
    )
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.shape != (len(pixels), 3 * 32 * 32)
    ):
        raise InputError(
            f"{source}: holds no images of CIFAR-10 (bytes of shape (n, 3072) under b'data')"
        )
    if (
        not isinstance(labels, list)
        or len(labels) != len(pixels)
        or not all(type(label) is int for label in labels)
    ):
        raise InputError(
            f"{source}: holds no labels for its {len(pixels)} images (a list of integers under b'labels')"
        )
    return pixels.reshape(-1, *SHAPE), np.array(labels, np.int64)


class _PlainData(pickle.Unpickler):
    """Loads dictionaries, lists, numbers, strings and plain arrays; names nothing else, so that a file cannot run code."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): _empty_array,
            ("numpy._core.multiarray", "_reconstruct"): _empty_array,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _plain_dtype,
            ("_codecs", "encode"): _encode,
        }
        if (module, name) not in allowed:
            raise InputError(
                f"a pickle that asks for {module}.{name}, which plain data does not; it is not opened"
            )
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> NoReturn:
        raise InputError("a pickle that refers to something outside itself; it is not opened")


def _empty_array(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """What numpy's pickles begin with; the contents follow as its state."""
    if kind is not np.ndarray or shape != (0,):
        raise InputError("a pickle of an array that is not plain; it is not opened")
    return np.ndarray(0, np.int8)


def _plain_dtype(name: str | bytes, align: Any = False, copy: Any = True) -> np.dtype:
    dtype = np.dtype(name.decode() if isinstance(name, bytes) else name)
    if dtype.kind not in "biuf":
        raise InputError(f"a pickle of an array of {dtype}, not of numbers; it is not opened")
    return dtype


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into pickles of protocol 2."""
    if encoding != "latin1":
        raise InputError(f"a pickle that asks for the codec {encoding}; it is not opened")
    return text.encode("latin1")


def _read_folder(folder: Path) -> dict[str, Batch]:
    batches = {}
    for name in (*TRAIN, TEST):
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise InputError(
                f"{folder / name}: cannot be read ({error.strerror}); unpack {ARCHIVES[0]} again"
            ) from None
        batches[name] = parse_batch(content, str(folder / name))
    return batches


def _read_archive(path: Path) -> dict[str, Batch]:
    batches: dict[str, Batch] = {}
    try:
        with tarfile.open(
            path, "r|*"
        ) as archive:  # one pass: to go back in a compressed file is to read it again
            for member in archive:
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                if (
                    folder == FOLDER
                    and name in (*TRAIN, TEST)
                    and (file := archive.extractfile(member))
                ):
                    batches[name] = parse_batch(file.read(), f"{path}: {name}")
    except (tarfile.TarError, OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{path}: not a whole archive ({error}); fetch it again") from None
    if missing := [name for name in (*TRAIN, TEST) if name not in batches]:
        raise InputError(
            f"{path}: there is no {FOLDER}/{missing[0]} in this archive; fetch it from {URL}"
        )
    return batches


def _locate(root: Path | None) -> Path:
    """The unpacked folder or the archive, in `root/cifar-10` or in `root` itself; else a download."""
    named = root or os.environ.get("SCOTOMA_DATA")
    if named:
        for folder in (Path(named) / "cifar-10", Path(named)):
            for path in (folder / FOLDER, *(folder / archive for archive in ARCHIVES)):
                if path.exists():
                    return path
        if Path(named).resolve().name == FOLDER:
            return Path(named)
        if root is not None:
            raise InputError(
                f"{root / 'cifar-10'}: no {ARCHIVES[0]} there; fetch it from {URL} or leave out --data-root"
            )
    import pooch

    try:
        return Path(
            pooch.retrieve(
                URL, f"sha256:{SHA256}", ARCHIVES[0], cache() / "cifar-10", progressbar=True
            )
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"cifar-10: {ARCHIVES[0]} is not in $SCOTOMA_DATA and could not be downloaded ({type(error).__name__}); "
            f"put {URL} into FOLDER/cifar-10 and give --data-root FOLDER"
        ) from None
