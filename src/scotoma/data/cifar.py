"""CIFAR-10 in the files of its author: pickles, from which only plain data is accepted."""

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
from scotoma.data.download import download
from scotoma.utils.errors import InputError

URL = "https://www.cs.toronto.edu/~kriz/"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-python.tar.xz", "cifar-10-python.tar")
FOLDER = "cifar-10-batches-py"
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = (3, 32, 32)

Batch = tuple[np.ndarray, np.ndarray]


def cifar10(root: Path | None = None) -> Dataset:
    """CIFAR-10 photographs, 32x32 in colour: 50,000 for training, 10,000 for testing.

    They are read in place from `root/cifar-10`: the archive (tar.gz, tar.xz or tar) or the folder
    that it unpacks to. Without either, the archive is downloaded into the user's cache and checked.

    Source: Krizhevsky 2009.
    """
    path = _locate(root)
    batches = _read_folder(path) if path.is_dir() else _read_archive(path)
    images, labels = map(np.concatenate, zip(*(batches[name] for name in TRAIN), strict=True))
    train, test = ArraySplit(images, labels, "cifar-10"), ArraySplit(*batches[TEST], "cifar-10")
    return from_splits("cifar-10", train, test, CLASSES)


def parse_batch(content: bytes, source: str) -> Batch:
    """Return images uint8 (n, 3, 32, 32) and labels int64 (n,) of one pickled batch.

    Raises:
        InputError: it is no such batch, or contains anything but dictionaries, lists, numbers,
            strings and arrays.
    """
    try:
        batch = _PlainData(io.BytesIO(content), encoding="bytes").load()
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise InputError(
            f"{source}: not a whole pickle ({type(error).__name__}); fetch it again"
        ) from None
    batch = batch if isinstance(batch, dict) else {}
    pixels, labels = batch.get(b"data"), batch.get(b"labels")
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8) or pixels.shape != (
        len(pixels),
        3 * 32 * 32,
    ):
        raise InputError(
            f"{source}: has no images of CIFAR-10 (bytes of shape (n, 3072) under b'data')"
        )
    if (
        not isinstance(labels, list)
        or len(labels) != len(pixels)
        or not all(type(label) is int for label in labels)
    ):
        raise InputError(
            f"{source}: has no labels for its {len(pixels)} images "
            "(a list of integers under b'labels')"
        )
    return pixels.reshape(-1, *SHAPE), np.array(labels, np.int64)


class _PlainData(pickle.Unpickler):
    """Loads only dictionaries, lists, numbers, strings and plain arrays: no code can run."""

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
                f"a pickle that imports {module}.{name}, unlike plain data; it is not opened"
            )
        return allowed[module, name]

    def persistent_load(self, pid: Any) -> NoReturn:
        raise InputError("a pickle that refers to something outside itself; it is not opened")


def _empty_array(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """Make the array that numpy's pickles begin with; the contents follow as its state."""
    if kind is not np.ndarray or shape != (0,):
        raise InputError("a pickle of an array that is not plain; it is not opened")
    return np.ndarray(0, np.int8)


def _plain_dtype(name: str | bytes, align: Any = False, copy: Any = True) -> np.dtype:
    dtype = np.dtype(name.decode() if isinstance(name, bytes) else name)
    if dtype.kind not in "biuf":
        raise InputError(f"a pickle of an array of {dtype}, not of numbers; it is not opened")
    return dtype


def _encode(text: str, encoding: str) -> bytes:
    """Read bytes as Python 3 writes them into pickles of protocol 2."""
    if encoding != "latin1":
        raise InputError(f"a pickle that uses the codec {encoding}; it is not opened")
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
        # One pass: going back in a compressed file would read it again.
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                needed = folder == FOLDER and name in (*TRAIN, TEST)
                if needed and (file := archive.extractfile(member)):
                    batches[name] = parse_batch(file.read(), f"{path}: {name}")
    except (tarfile.TarError, OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{path}: not a whole archive ({error}); fetch it again") from None
    if missing := [name for name in (*TRAIN, TEST) if name not in batches]:
        raise InputError(
            f"{path}: there is no {FOLDER}/{missing[0]} in this archive; fetch it from "
            f"{URL}{ARCHIVES[0]}"
        )
    return batches


def _locate(root: Path | None) -> Path:
    """Return the unpacked folder or the archive, in `root/cifar-10` or `root`; else a download."""
    base = root or os.environ.get("SCOTOMA_DATA")
    if base:
        for folder in (Path(base) / "cifar-10", Path(base)):
            for path in (folder / FOLDER, *(folder / archive for archive in ARCHIVES)):
                if path.exists():
                    return path
        if Path(base).resolve().name == FOLDER:
            return Path(base)
        if root is not None:
            raise InputError(
                f"{root / 'cifar-10'}: no {ARCHIVES[0]} there; fetch it from {URL}{ARCHIVES[0]} "
                "or omit root=FOLDER"
            )
    return download("cifar-10", URL, ARCHIVES[0], SHA256)
