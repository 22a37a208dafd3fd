"""Class-conditional generators: models of ours with latents to search in, and samplers of users.

A user's sampler is a function `(count, seed) -> (images, labels)`: images (count, c, h, w) of the
size of the data, floats in [0, 1] or uint8, and the class that each image shows, integers (count,).
The same count and seed should give the same images.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scotoma.data.dataset import Dataset
from scotoma.models import user_code
from scotoma.models.classifier import Classifier
from scotoma.models.decoders import Decoders
from scotoma.models.flow import Flow
from scotoma.models.loading import load_model
from scotoma.models.synthesis import inside
from scotoma.models.vae import LATENT
from scotoma.utils.errors import InputError
from scotoma.utils.random import own_numbers

Sampler = Callable[[int, int], Any]
TOGETHER = 256
"""Images that are generated at once."""
TRIAL = 4
"""Images that are made before an audit begins, to check a sampler."""


@dataclass(frozen=True)
class UserSampler:
    """A user's function, see the contract above.

    >>> def noise(count, seed):
    ...     return torch.rand(count, 1, 8, 8), torch.zeros(count, dtype=torch.int64)
    >>> UserSampler(noise, "noise", "").sample(3, 0)[0].shape
    torch.Size([3, 1, 8, 8])
    """

    function: Sampler
    name: str
    identity: str
    spec: str = ""
    decode: None = None

    def sample(self, count: int, seed: int) -> tuple[Tensor, Tensor, None]:
        """Return images and labels. Raises `InputError` if they are no images with labels."""
        what = f"generator {self.name}"
        inside_folder = user_code.function(self.spec, "generator") if self.spec else nullcontext()
        with own_numbers(seed), inside_folder:
            sample = user_code.run(lambda: self.function(count, seed), what)
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            kind = type(sample).__name__
            raise InputError(f"{what} returned {kind}; want (images, labels)")
        images, labels = (_tensor(each, what) for each in sample)
        if images.dtype == torch.uint8:
            images = images.float().div_(255)
        return images.float(), labels, None


@dataclass(frozen=True)
class LatentModel:
    """A model of ours, which makes images from Gaussian latents.

    Args:
        model: the classifier that it belongs to.
        size: number of values of a latent.
        classes: number of classes.
        decode: from latents (n, size) and labels to images (n, c, h, w).
    """

    model: Classifier
    size: int
    classes: int
    decode: Callable[[Tensor, Tensor], Tensor]

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def identity(self) -> str:
        return self.model.sha256

    def sample(self, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return images of all classes in turn."""
        latents = torch.randn(count, self.size, generator=torch.Generator().manual_seed(seed))
        labels = torch.arange(count) % self.classes
        device = next(self.model.module.parameters()).device
        pairs = zip(latents.split(TOGETHER), labels.split(TOGETHER), strict=True)
        with torch.no_grad():
            images = [self.decode(z.to(device), classes.to(device)).cpu() for z, classes in pairs]
        return torch.cat(images), labels, latents


Generator = UserSampler | LatentModel
"""Has a `name` and an `identity`, which determines the images together with the count and the seed.
`sample` returns images (count, c, h, w), labels int64 (count,) and latents (count, ...) if any.
`decode`, with gradients by the latents, is None if there are no latents to search."""


def by_synthesis(model: Classifier) -> LatentModel:
    """Return the decoders of a classifier with an `AnalysisBySynthesis`, one a class."""
    synthesiser = inside(model.module)
    assert synthesiser is not None
    classes, decoders = synthesiser.vaes.classes, Decoders(synthesiser.vaes).each
    device = next(synthesiser.vaes.parameters()).device

    def decode(latents: Tensor, labels: Tensor) -> Tensor:
        latents, labels = latents.to(device), labels.to(device)
        rows = [(labels == label).nonzero().squeeze(1) for label in range(classes)]
        pairs = zip(decoders, rows, strict=True)
        parts = [decoder.decode(latents[each]) for decoder, each in pairs if len(each)]
        return torch.cat(parts)[torch.cat(rows).argsort()]

    return LatentModel(model, LATENT, classes, decode)


def load_generator(spec: str | Sampler | Generator | nn.Module | Classifier) -> Generator:
    """Return the generator that an option names.

    Args:
        spec: a model of arch abs or flow, as a file or a module; "file.py:function" or
            "package.module:function" of a sampler; or a sampler itself.

    Raises:
        InputError: it is none of these, or cannot be loaded.
    """
    if isinstance(spec, nn.Module | Classifier):
        return _of_model(load_model(spec))
    if not isinstance(spec, str):
        if hasattr(spec, "sample"):
            return spec  # type: ignore[return-value]
        name = getattr(spec, "__qualname__", type(spec).__name__)
        return UserSampler(spec, name, name)  # type: ignore[arg-type]
    path = Path(spec).expanduser()
    if path.exists() or ":" not in spec:
        return _of_model(load_model(spec))
    with user_code.function(spec, "generator") as (function, name):
        pass
    if isinstance(function, nn.Module):
        return _of_model(load_model(function))
    source = Path(spec.rpartition(":")[0]).expanduser()
    content = source.read_bytes() if source.suffix == ".py" else spec.encode()
    return UserSampler(function, name, hashlib.sha256(content).hexdigest(), spec)


def _of_model(model: Classifier) -> Generator:
    if isinstance(model.module, Flow):
        flow = model.module
        return LatentModel(model, math.prod(flow.shape), flow.classes, flow.decode)
    if inside(model.module) is None:
        raise InputError(
            f"generator {model.name}: is a model that generates no images; give one of recipe abs "
            "or generator, or file.py:FUNCTION that returns images and labels"
        )
    return by_synthesis(model)


def checked(
    generator: Generator, count: int, seed: int, data: Dataset
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return `count` samples of a generator. Raises `InputError` if they do not fit the data."""
    images, labels, latents = generator.sample(count, seed)
    what = f"generator {generator.name}"
    if len(images) != count or labels.shape != (count,):
        raise InputError(
            f"{what}: returned {len(images)} images and labels of shape {tuple(labels.shape)}; "
            f"want {count} of each"
        )
    if tuple(images.shape[1:]) != data.shape:
        sizes = ["x".join(map(str, each)) for each in (images.shape[1:], data.shape)]
        raise InputError(f"{what}: images are {sizes[0]}; those of {data.name} are {sizes[1]}")
    if not images.isfinite().all():
        raise InputError(f"{what}: some pixels are NaN or infinite")
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise InputError(f"{what}: pixels reach from {low:g} to {high:g}; want them in [0, 1]")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(f"{what}: labels are {labels.dtype}; want integers")
    labels, classes = labels.long(), len(data.classes)
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise InputError(
            f"{what}: labels reach from {int(labels.min())} to {int(labels.max())}; {data.name} "
            f"has classes 0 to {classes - 1}"
        )
    return images.detach().cpu(), labels.cpu(), latents


def _tensor(value: Any, what: str) -> Tensor:
    try:
        return torch.as_tensor(np.asarray(value) if not isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError):
        kind = type(value).__name__
        raise InputError(f"{what}: returned {kind}; want tensors of images and labels") from None
