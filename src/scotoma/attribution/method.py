"""The base of all attribution methods: a baseline, and batches of bounded size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scotoma.utils.device import batch_size
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

LEVELS = {"black": 0.0, "gray": 0.5, "white": 1.0}
MEAN = "mean"
MOST_VALUES = 2**23
"""Most values of images in one pass of a model: 55 images of 3x224x224."""

Score = Callable[[Tensor], Tensor]
"""Function from k batches of points for n images, (k n, c, h, w), to the sum of the logits of their
labels, (1,). The gradient of the sum at a point is that of its own logit; separate derivatives
would cost Captum more than the passes of a small network."""


@dataclass(frozen=True)
class Attribution(ABC):
    """A method that measures how much each sub-pixel counts for the label's logit.

    Duan et al. 2023 work on standardised images z = (x - m) / s, with the mean m and the standard
    deviation s of each channel of the data. Here x is in [0, 1]: their baseline z = 0 is
    `baseline=m`, and their noise of standard deviation t is `noise=t * s`. A map against a baseline
    is equal in both scales, since df/dz (z - z0) = df/dx (x - x0).

    A pixel with the value of the baseline counts for nothing in every model: against black, maps of
    white strokes on black are concentrated for all models. Compare models against a level that few
    pixels have.

    Args:
        baseline: an image without evidence: "black", "gray" (0.5), "white", "mean" (the mean of
            each channel of the image), or a tuple of one value in [0, 1] for each channel.
    """

    baseline: str | tuple[float, ...] = "black"

    def __post_init__(self):
        if isinstance(self.baseline, str):
            if self.baseline not in (*LEVELS, MEAN):
                raise InputError(
                    f"baseline {self.baseline!r}: want {', '.join(LEVELS)}, {MEAN}, "
                    "or one value for each channel"
                )
        elif not all(0 <= value <= 1 for value in self.baseline):
            raise InputError(f"baseline {self.baseline}: want values in [0, 1]")

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: Randomness | None = None
    ) -> Tensor:
        """Return signed maps: above 0 for the label, below 0 against it.

        The map of an image and its random numbers do not depend on the other images beyond
        rounding; nothing is clipped. Passes are in float32, over at most `at_once` images.

        Args:
            model: in eval mode.
            images: float32 (n, c, h, w) in [0, 1].
            labels: int64 (n,), the true labels.
            generator: random numbers for the noise, if there is any, equal in every call.

        Returns:
            float32 (n, c, h, w).

        Raises:
            InputError: no gradient reaches the images, or baseline or noise do not fit the channels
                of the images.
        """
        random = generator or Randomness.default(images)
        maps = torch.empty_like(images, memory_format=torch.contiguous_format)
        if not len(images):
            return maps
        for rows in torch.arange(len(images), device=images.device).split(at_once(images)):
            part, score = images[rows].detach(), _scored(model, labels[rows])
            made = self.explain(score, part, self.origin(part), random.select(rows))
            maps[rows] = made.detach()
        return maps

    @abstractmethod
    def explain(self, score: Score, images: Tensor, origin: Tensor, random: Randomness) -> Tensor:
        """Return the maps of at most `at_once` images with baselines `origin`, all (n, c, h, w)."""

    def origin(self, images: Tensor) -> Tensor:
        """Return the baseline of each image, (n, c, h, w)."""
        if self.baseline == MEAN:
            return images.mean((2, 3), keepdim=True).expand_as(images)
        if isinstance(self.baseline, str):
            return torch.full_like(images, LEVELS[self.baseline])
        return by_channel(self.baseline, images, "baseline").expand_as(images)


def by_channel(values: float | tuple[float, ...], images: Tensor, name: str) -> Tensor:
    """Return one number, or one for each channel, as a tensor that broadcasts over images."""
    if isinstance(values, tuple) and len(values) != images.shape[1]:
        raise InputError(
            f"{name} has {len(values)} values, but the images have {images.shape[1]} channels"
        )
    return torch.as_tensor(values, dtype=images.dtype, device=images.device).view(-1, 1, 1)


def check_noise(noise: float | tuple[float, ...]) -> None:
    """Raise `InputError` where a standard deviation is below 0 or not finite."""
    deviations = noise if isinstance(noise, tuple) else (noise,)
    if not all(0 <= value < float("inf") for value in deviations):
        raise InputError(f"noise {noise}: want standard deviations of at least 0")


def check_count(count: int, name: str) -> None:
    """Raise `InputError` where the count is below 1."""
    if count < 1:
        raise InputError(f"{count} {name} of an attribution: want at least 1")


def at_once(images: Tensor) -> int:
    """Return how many images of this size go through the model at once."""
    values = max(1, images.shape[1:].numel())
    return max(1, min(batch_size(images.device, values), MOST_VALUES // values))


def _scored(model: nn.Module, labels: Tensor) -> Score:
    def score(points: Tensor) -> Tensor:
        logits = model(points).float()
        if not logits.requires_grad:
            raise InputError(
                "no gradient reaches the images from the logits: the model has no attribution maps"
            )
        return logits.gather(1, labels.repeat(len(points) // len(labels))[:, None]).sum()[None]

    return score
