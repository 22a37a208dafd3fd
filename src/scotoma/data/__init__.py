"""Sources of images: one file a source, one line here a name.

>>> import scotoma, torch
>>> scotoma.data.load_data("digits").test.images(torch.arange(2)).shape
torch.Size([2, 1, 8, 8])
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scotoma.data.dataset import ArraySplit as ArraySplit
from scotoma.data.dataset import Dataset
from scotoma.data.dataset import from_splits as from_splits
from scotoma.data.input import ImageOptions, InputSpec
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
        "parquet": "data.parquet:parquet",
        "hf": "data.hub:hub",
    },
)
ENCODED = {"folder": "PATH", "parquet": "FILE", "hf": "DATASET[:SPLIT]"}
"""Sources of encoded images, which have options for their size, and what follows their names."""


def load_data(
    spec: str | Dataset,
    root: str | Path | None = None,
    *,
    train: str | Dataset | None = None,
    size: int | str | None = None,
    resize: int | None = None,
    crop: int | None = None,
    interpolation: str | None = None,
    on_error: str = "refuse",
    model: InputSpec | None = None,
) -> Dataset:
    """Load a data set: "digits", "mnist", "fashion-mnist", "cifar-10", "npz:FILE", "folder:PATH",
    "parquet:FILE", "hf:DATASET[:SPLIT]".

    Args:
        spec: the name, followed by a colon and the path for your own images; a `Dataset` is
            returned unchanged.
        root: folder of downloaded data sets (default: `$SCOTOMA_DATA`, then the user's cache).
        train: a data set with the training images, if they lie apart: its training split, or its
            test split where it has no other.
        size: side of the square that images are resized to, or "HEIGHTxWIDTH"; for images in files.
        resize: length of the shorter side after resizing, with `crop`.
        crop: side of the square in the centre that is kept.
        interpolation: filter of the resizing, "bilinear" or "bicubic" and others of Pillow.
        on_error: "refuse" files that cannot be read, or "skip" them.
        model: size that the configuration of a model asks for (`Classifier.input`), used for images
            that have several sizes or are larger.

    Raises:
        InputError: an unknown name, or a source that cannot be read.

    >>> digits = load_data("digits")
    >>> len(digits.train), len(digits.test), digits.shape
    (1297, 500, (1, 8, 8))
    """
    options = ImageOptions(size, resize, crop, interpolation, on_error, model)
    data = spec if isinstance(spec, Dataset) else _load(spec, root, options)
    if train is None:
        return data
    from scotoma.data.matching import with_train

    if not isinstance(train, Dataset):
        recipe = getattr(data.test, "recipe", None)
        fixed = replace(options, model=recipe or model) if recipe else options
        train = _load(train, root, fixed)
    return with_train(data, train)


def _load(spec: str, root: str | Path | None, options: ImageOptions) -> Dataset:
    name, colon, path = spec.partition(":")
    if name == "npz" or name in ENCODED:
        if not path:
            raise InputError(
                f"data {spec!r} names no file; write {name}:{ENCODED.get(name, 'PATH')}"
            )
        if name == "npz":
            options.refuse_for(spec)
            return DATA[name](Path(path).expanduser())
        return DATA[name](path if name == "hf" else Path(path).expanduser(), options)
    if name in DATA and colon:
        raise InputError(
            f"data {spec!r}: {name!r} takes no path; only npz:FILE, folder:PATH, parquet:FILE and "
            "hf:DATASET do"
        )
    if spec and name not in DATA and Path(spec).expanduser().exists():
        file = Path(spec).expanduser()
        kind = "folder" if file.is_dir() else file.suffix[1:]
        raise InputError(f"data {spec!r} is a path; write {kind if kind in DATA else 'npz'}:{spec}")
    source = DATA[name]
    options.refuse_for(name)
    return source(None if root is None else Path(root).expanduser())


def __dir__() -> list[str]:
    return ["DATA", "ArraySplit", "Dataset", "from_splits", "load_data"]
