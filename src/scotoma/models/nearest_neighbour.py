"""Classification by the nearest training image (a baseline of Schott et al. 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from scotoma.data.dataset import Split
from scotoma.utils.errors import InputError
from scotoma.utils.optional import require

READ = 4096
"""Training images read at once."""


class NearestNeighbour(nn.Module):
    """A model whose logits are minus the L2 distances to the nearest training image of each class.

    The search is exact (faiss on a CPU). Logits have a gradient by the image as long as its
    neighbours stay the nearest. Half the gap between the smallest distances to another class and to
    its own is an L2 certificate.

    The buffers, filled by `remember`, are images (m, c, h, w), as bytes if nothing is lost, and
    labels (m,).
    """

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes
        self.register_buffer("images", torch.empty(0, dtype=torch.uint8))
        self.register_buffer("labels", torch.empty(0, dtype=torch.int64))
        self.images: Tensor
        self.labels: Tensor
        self._kept = _Kept()

    def remember(self, split: Split) -> NearestNeighbour:
        """Store all images of a split, and return the model."""
        rows = torch.arange(len(split)).split(READ)
        self.labels = split.labels.clone()
        as_bytes = [(split.images(part) * 255).round_().to(torch.uint8) for part in rows]
        pairs = zip(as_bytes, rows, strict=True)
        lossless = all(torch.equal(part.float().div_(255), split.images(of)) for part, of in pairs)
        self.images = torch.cat(as_bytes if lossless else [split.images(part) for part in rows])
        self._kept.places = None
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes); a class without images has the largest possible distance.

        Raises:
            InputError: there are no training images.
        """
        if not len(self.labels):
            raise InputError(
                "this nearest neighbour has no training images yet: "
                "scotoma train nearest-neighbour --data DATA"
            )
        flat = images.flatten(1).float()
        nearest = self._search(flat.detach())
        diameter = flat.shape[1] ** 0.5
        neighbours = self._pixels(nearest.clamp_min(0).flatten()).view(len(flat), self.classes, -1)
        distances = (flat[:, None] - neighbours).norm(dim=2)
        return -torch.where(nearest < 0, diameter, distances)

    @torch.no_grad()
    def _search(self, flat: Tensor) -> Tensor:
        """Return rows of the nearest training images, int64 (n, classes); -1 for an empty class."""
        kept, classes = self._kept, range(self.classes)
        if kept.places is None:
            kept.places = [(self.labels == label).nonzero().squeeze(1) for label in classes]
            kept.pixels = [self._pixels(rows) for rows in kept.places]
        best = flat.new_full((len(flat), self.classes), -1, dtype=torch.int64)
        for label, rows, pixels in zip(classes, kept.places, kept.pixels, strict=True):
            if len(rows):
                best[:, label] = rows[_nearest(pixels, flat)]
        return best

    def _pixels(self, rows: Tensor) -> Tensor:
        images = self.images[rows].flatten(1)
        return images.float().div_(255) if images.dtype == torch.uint8 else images

    def _apply(self, *args: Any, **kwargs: Any) -> NearestNeighbour:
        self._kept.places = None
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for name in ("images", "labels"):
            if prefix + name in state_dict:
                setattr(self, name, state_dict[prefix + name].clone())
        self._kept.places = None
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class _Kept:
    """Training images by class, for the search; not part of the model's state."""

    places: list[Tensor] | None = None
    pixels: list[Tensor]


def _nearest(pixels: Tensor, flat: Tensor) -> Tensor:
    """Return the row of `pixels` (m, d) nearest to each of `flat` (n, d), int64 (n,)."""
    if flat.device.type != "cpu":
        return torch.cdist(flat, pixels).argmin(1)
    faiss = require("faiss", "model nearest-neighbour")
    _, rows = faiss.knn(flat.numpy(), pixels.numpy(), 1)
    return torch.from_numpy(rows[:, 0])


def nearest_neighbour(shape: tuple[int, int, int], classes: int) -> NearestNeighbour:
    """Build a model without training images; the recipe nearest-neighbour stores them.

    >>> model = nearest_neighbour((1, 1, 1), classes=2)
    >>> model.images, model.labels = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), torch.tensor([0, 1])
    >>> model(torch.tensor([0.2, 0.9]).view(2, 1, 1, 1)).argmax(1)
    tensor([0, 1])
    """
    return NearestNeighbour(classes)
