"""Data sets from tensors, PyTorch data sets and data loaders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torch.utils.data import Dataset as TorchDataset

from scotoma.data.dataset import ArraySplit, Dataset, channels_first, from_splits
from scotoma.utils.errors import InputError

Images = tuple[Any, Any] | TorchDataset | DataLoader
"""Images with their labels: two tensors, a PyTorch data set or a data loader."""
BATCH = 256
KINDS = "(images, labels), a torch.utils.data.Dataset or a DataLoader"


def from_memory(data: Images, train: Images | None = None) -> Dataset:
    """Make a data set of images that are at hand in Python.

    A data set and a data loader are read once, in the order of the data set even if the loader
    shuffles, and kept in memory. Their items are (image, label), as torchvision gives them after
    `ToTensor`.

    Args:
        data: images to audit (n, c, h, w), floats in [0, 1] or uint8, and integer labels (n,).
        train: training images of the same kinds; None means none.

    Raises:
        InputError: shapes, types, pixels or labels are wrong; the message names the parameter.

    >>> images, labels = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 1])
    >>> from_memory((images, labels)).classes
    ('0', '1')
    >>> from_memory(torch.utils.data.TensorDataset(images, labels)).name
    'TensorDataset'
    """
    if data is None:
        raise InputError(f"data: is None; want {KINDS}")
    test = ArraySplit(*_arrays(data, "data"), "data")
    training = None if train is None else ArraySplit(*_arrays(train, "train"), "train")
    return replace(from_splits("data", training, test), name=source_name(data))


def source_name(data: Images) -> str:
    """Return the name of a data set made from memory: that of its class, or "tensors"."""
    if isinstance(data, DataLoader):
        return type(data.dataset).__name__
    return type(data).__name__ if isinstance(data, TorchDataset) else "tensors"


def _arrays(data: Images, name: str) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(data, TorchDataset | DataLoader):
        pairs = _batches(data, name)
        images, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    elif isinstance(data, tuple | list) and len(data) == 2:
        images, labels = data
    else:
        kind = f"{len(data)} values" if isinstance(data, tuple | list) else type(data).__name__
        raise InputError(f"{name}: is {kind}; want {KINDS}")
    return channels_first(_array(images, name, "images")), _array(labels, name, "labels")


def _batches(data: TorchDataset | DataLoader, name: str) -> list[tuple[Tensor, Tensor]]:
    loader = data if isinstance(data, DataLoader) else DataLoader(data, BATCH)
    if isinstance(loader.sampler, SequentialSampler | RandomSampler) and loader.batch_size:
        loader = DataLoader(
            loader.dataset,
            loader.batch_size,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
        )
    pairs = []
    try:
        for batch in loader:
            images, labels = batch
            pairs.append((torch.as_tensor(images), torch.as_tensor(labels)))
        shapes = {images.shape[1:] for images, _ in pairs}
    except (TypeError, ValueError, RuntimeError) as error:
        cause = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{name}: {source_name(data)} does not give batches of (image, label) tensors of one "
            f"size; convert images with ToTensor ({cause})"
        ) from None
    if len(shapes) != 1:
        sizes = f"images of {len(shapes)} sizes; want one" if shapes else "no images"
        raise InputError(f"{name}: {source_name(data)} has {sizes}")
    return pairs


def _array(values: Any, name: str, content: str) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    if isinstance(values, np.ndarray):
        return values
    raise InputError(f"{name}: {content} are a {type(values).__name__}; want a tensor")
