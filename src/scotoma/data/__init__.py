"""Sources of images: one file a source, one line here a name.

>>> import scotoma, torch
>>> scotoma.data.load_data("digits").test.images(torch.arange(2)).shape
torch.Size([2, 1, 8, 8])
"""

from __future__ import annotations

from pathlib import Path

from scotoma.data.dataset import ArraySplit as ArraySplit
from scotoma.data.dataset import Dataset
from scotoma.data.dataset import from_splits as from_splits
from scotoma.utils.errors import InputError
from scotoma.utils.registry import Table

DATA = Table(
    "data set",
    {
        "digits": "data.digits:digits",
        "mnist": "data.idx:mnist",
        "fashion-mnist": "data.idx:fashion_mnist",
        "cifar-10": "data.cifar:cifar10",
        "npz": "data.npz:npz",
        "folder": "data.folder:folder",
    },
)


def load_data(spec: str | Dataset, root: str | Path | None = None) -> Dataset:
    """Load a data set: "digits", "mnist", "fashion-mnist", "cifar-10", "npz:FILE", "folder:PATH".

    Args:
        spec: the name, followed by a colon and the path for your own images; a `Dataset` is
            returned unchanged.
        root: folder of downloaded data sets (default: `$SCOTOMA_DATA`, then the user's cache).

    Raises:
        InputError: an unknown name, or a source that cannot be read.

    >>> digits = load_data("digits")
    >>> len(digits.train), len(digits.test), digits.shape
    (1297, 500, (1, 8, 8))
    """
    if isinstance(spec, Dataset):
        return spec
    name, colon, path = spec.partition(":")
    if name in ("npz", "folder"):
        if not path:
            raise InputError(f"data {spec!r} names no file; write {name}:PATH")
        return DATA[name](Path(path).expanduser())
    if name in DATA and colon:
        raise InputError(f"data {spec!r}: {name!r} takes no path; only npz:FILE and folder:PATH do")
    if spec and name not in DATA and Path(spec).expanduser().exists():
        kind = "folder" if Path(spec).expanduser().is_dir() else "npz"
        raise InputError(f"data {spec!r} is a path; write {kind}:{spec}")
    return DATA[name](None if root is None else Path(root).expanduser())


def __dir__() -> list[str]:
    return ["DATA", "ArraySplit", "Dataset", "from_splits", "load_data"]
