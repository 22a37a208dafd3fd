"""Classification by the nearest training image (a baseline of Schott et al. 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from scotoma.data.dataset import Split
from scotoma.utils.errors import InputError

READ = 4096
"""Training images read at once."""


class NearestNeighbour(nn.Module):
    """The logit of a class is minus the L2 distance to its nearest training image.

    Exact search, by faiss on a CPU. The logits can be differentiated: by the image whose neighbours they are, as long as these
    stay the nearest. Half the smallest distance to another class less that to its own is a certificate in L2.

    Buffers: images (m, c, h, w), bytes where nothing is lost in them, and labels (m,), which `remember` fills.
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
        """Take every image of a split."""
        rows = torch.arange(len(split)).split(READ)
        self.labels = split.labels.clone()
        as_bytes = [(split.images(part) * 255).round_().to(torch.uint8) for part in rows]
        whole = all(
            torch.equal(made.float().div_(255), split.images(part))
            for made, part in zip(as_bytes, rows, strict=True)
        )
        self.images = torch.cat(as_bytes if whole else [split.images(part) for part in rows])
        self._kept.places = None
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes); a class without images is as far as the diameter of the box."""
        if not len(self.labels):
            raise InputError(
                "this nearest neighbour remembers no images yet: scotoma train nearest-neighbour --data DATA"
            )
        flat = images.flatten(1).float()
        nearest = self._search(flat.detach())
        diameter = flat.shape[1] ** 0.5
        found = self._pixels(nearest.clamp_min(0).flatten()).view(len(flat), self.classes, -1)
        distances = (flat[:, None] - found).norm(dim=2)
        return -torch.where(nearest < 0, diameter, distances)

    @torch.no_grad()
    def _search(self, flat: Tensor) -> Tensor:
        """Which training image of each class is nearest, int64 (n, classes); -1 where the class has none."""
        if self._kept.places is None:
            self._kept.places = [
                (self.labels == label).nonzero().squeeze(1) for label in range(self.classes)
            ]
            self._kept.pixels = [self._pixels(rows) for rows in self._kept.places]
        best = flat.new_full((len(flat), self.classes), -1, dtype=torch.int64)
        for label, (rows, pixels) in enumerate(
            zip(self._kept.places, self._kept.pixels, strict=True)
        ):
            if len(rows):
                best[:, label] = rows[_nearest(pixels, flat)]
        return best

    def _pixels(self, rows: Tensor) -> Tensor:
        found = self.images[rows].flatten(1)
        return found.float().div_(255) if found.dtype == torch.uint8 else found

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
    """Training images class by class, for the search; no part of the model's state."""

    places: list[Tensor] | None = None
    pixels: list[Tensor]


def _nearest(pixels: Tensor, flat: Tensor) -> Tensor:
    """The row of `pixels` (m, d) nearest to each of `flat` (n, d), int64 (n,)."""
    if flat.device.type != "cpu":
        return torch.cdist(flat, pixels).argmin(1)
    import faiss

    _, found = faiss.knn(flat.numpy(), pixels.numpy(), 1)
    return torch.from_numpy(found[:, 0])


def nearest_neighbour(shape: tuple[int, int, int], classes: int) -> NearestNeighbour:
    """A model that remembers nothing yet; recipe nearest-neighbour fills it."""
    return NearestNeighbour(classes)
