"""MNIST and Fashion-MNIST in the IDX files of their authors, gzipped or not."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from scotoma.data.dataset import ArraySplit, Dataset, from_splits
from scotoma.data.download import download
from scotoma.utils.errors import InputError

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_SHA256 = (
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_SHA256 = (
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def mnist(root: Path | None = None) -> Dataset:
    """MNIST handwritten digits, 28x28: 60,000 for training, 10,000 for testing.

    Source: LeCun, Cortes and Burges.
    """
    return _read("mnist", root, MNIST_URL, MNIST_SHA256, tuple("0123456789"))


def fashion_mnist(root: Path | None = None) -> Dataset:
    """Fashion-MNIST articles of clothing, 28x28: 60,000 for training, 10,000 for testing.

    Source: Xiao et al. 2017.
    """
    return _read("fashion-mnist", root, FASHION_URL, FASHION_SHA256, FASHION_CLASSES)


def read_idx(path: Path) -> np.ndarray:
    """Read the array of unsigned bytes in an IDX file.

    It has two zero bytes, type 8, the number of dimensions, their sizes, then the data.

    Raises:
        InputError: the file is not IDX, or is cut short.
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); fetch it again") from None
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise InputError(f"{path}: not an IDX file of unsigned bytes")
    dimensions = content[3]
    header = 4 + 4 * dimensions
    if dimensions == 0 or len(content) < header:
        raise InputError(f"{path}: cut short inside its header; fetch it again")
    shape = tuple(np.frombuffer(content, ">u4", dimensions, 4).tolist())
    if len(content) - header != math.prod(shape):
        raise InputError(
            f"{path}: {len(content) - header} bytes of data where its header promises an array of "
            f"shape {shape}; fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def _read(
    name: str, root: Path | None, url: str, hashes: tuple[str, ...], classes: tuple[str, ...]
) -> Dataset:
    files = zip(FILES, hashes, strict=True)
    arrays = [read_idx(_locate(name, root, url, file, sha256)) for file, sha256 in files]
    train, test = (ArraySplit(arrays[i][:, None], arrays[i + 1], name) for i in (0, 2))
    return from_splits(name, train, test, classes)


def _locate(name: str, root: Path | None, url: str, file: str, sha256: str) -> Path:
    """Return the file in `root/name`, in `root` if that has this name, or from a download.

    MNIST and Fashion-MNIST have equal file names, so any other folder could belong to either.
    """
    base = root or os.environ.get("SCOTOMA_DATA")
    if base:
        folders = [Path(base) / name] + [Path(base)] * (Path(base).resolve().name == name)
        for path in (folder / f"{file}{suffix}" for folder in folders for suffix in (".gz", "")):
            if path.is_file():
                return path
        if root is not None:
            raise InputError(
                f"{Path(root) / name}: no {file}.gz there; fetch it from {url} or omit root=FOLDER"
            )
    return download(name, url, f"{file}.gz", sha256)
