"""The preparation of images that a network's configuration asks for, as part of the module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.data.input import InputSpec
from scotoma.utils.errors import InputError

FILTERS = {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic"}
"""Filters that torch has, by the names that Pillow gives them; both smooth when they shrink."""


class Prepared(nn.Module):
    """A network that takes images in [0, 1] and resizes, crops and normalises them itself.

    Images of the network's size are only normalised: they have been resized and cropped already, so
    a perturbation is one of the pixels that the network sees. Images of any other size are resized
    and cropped first, which has gradients.

    Args:
        network: the network, from normalised images to logits, or to an object with `logits`.
        spec: size, resizing, crop and filter.
        mean: what is subtracted from each channel.
        std: what each channel is divided by then.
        order: which channel of an image each channel of the network gets.
        odd: where the crop begins if the margin is odd: "floor" half of it, or "round" to even.

    Raises:
        InputError: torch has no such filter.

    >>> net = Prepared(nn.Flatten(), InputSpec((1, 1), resize=1), mean=[0.5], std=[0.25])
    >>> net(torch.ones(2, 1, 3, 3)).tolist()
    [[2.0], [2.0]]
    """

    mean: Tensor
    std: Tensor
    order: Tensor

    def __init__(
        self,
        network: nn.Module,
        spec: InputSpec,
        mean: Sequence[float],
        std: Sequence[float],
        order: Sequence[int] | None = None,
        odd: Literal["floor", "round"] = "floor",
    ):
        super().__init__()
        if spec.interpolation not in FILTERS:
            raise InputError(
                f"interpolation {spec.interpolation}: a model resizes with {', '.join(FILTERS)}"
            )
        self.network = network
        self.spec = spec
        self.odd = odd
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)
        moved = order is not None and list(order) != sorted(order)
        self.register_buffer("order", torch.tensor(order) if moved else None, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        answer = self.network(self.prepare(images))
        return answer if isinstance(answer, Tensor) else answer.logits

    def prepare(self, images: Tensor) -> Tensor:
        """Return the input of the network for images (n, c, h, w) in [0, 1]."""
        if tuple(images.shape[2:]) != self.spec.size:
            images = self._cropped(self._resized(images))
        if self.order is not None:
            images = images[:, self.order]
        return (images - self.mean) / self.std

    def extra_repr(self) -> str:
        return f"{self.spec}, size={self.spec.size}, odd={self.odd}"

    def _resized(self, images: Tensor) -> Tensor:
        goal = self.spec.resize
        if goal is None:
            return images
        height, width = images.shape[2:]
        if isinstance(goal, int):  # as torchvision and Pillow round
            short = min(height, width)
            goal = tuple(
                goal if side == short else int(goal * side / short) for side in (height, width)
            )
        if (height, width) == goal:
            return images
        mode = FILTERS[self.spec.interpolation]
        smooth = {} if mode == "nearest-exact" else {"antialias": True, "align_corners": False}
        return F.interpolate(images, goal, mode=mode, **smooth).clamp(0, 1)

    def _cropped(self, images: Tensor) -> Tensor:
        if self.spec.crop is None:
            return images
        margins = [have - want for have, want in zip(images.shape[2:], self.spec.crop, strict=True)]
        if min(margins) < 0:  # smaller images get a black border
            down, across = (max(0, -margin) for margin in margins)
            top, left = -(-down // 2), -(-across // 2)
            images = F.pad(images, (left, across - left, top, down - top))
            margins = [max(0, margin) for margin in margins]
        top, left = (round(m / 2) if self.odd == "round" else m // 2 for m in margins)
        height, width = self.spec.crop
        return images[:, :, top : top + height, left : left + width]
