"""Noise on the few values that matter most: the inductive noise attack of Duan et al. (2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from scotoma.attacks.core.oracle import Oracle
from scotoma.attribution.ranking import ORDERS, by_pixel, check, known, places, ranking
from scotoma.utils.device import batch_size
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

SHARES = tuple(k / 150_528 for k in (500, 1_000, 5_000, 10_000, 20_000))
"""The paper's numbers of values as shares of its 3x224x224 images: 0.33% to 13.3%."""

TYPES = ("I", "II")
"""Noise is added to the values (I), or replaces them (II)."""

UNITS = ("values", "pixels")
NOISES = ("gaussian", "uniform")

IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalisation of red, green and blue in the paper's models, (x - mean) / sd."""


def default_counts(size: int) -> tuple[int, ...]:
    """Return the paper's `SHARES` of so many values or pixels: rounded, at least 1, distinct."""
    return tuple(sorted({max(1, round(share * size)) for share in SHARES})) if size else ()


class NoiseErrors(NamedTuple):
    """Which images `InductiveNoise` makes the model misclassify."""

    counts: tuple[int, ...]
    """Numbers k of noised values or pixels, for the last dimension."""
    wrong: dict[tuple[str, str], Tensor]
    """Misclassified, bool (n, draws, counts), by order and type: `wrong["importance", "I"]`."""


@dataclass(frozen=True)
class InductiveNoise:
    """Noise s on the k most important values, marked by M.

    Type I is x + M s, type II is (1 - M) x + M s. Noise alone makes models wrong, so k random
    values and the k least important ones get equal noise as controls; the order explains the
    difference from them. Orders, types and k share the noise of a draw, and a larger k noises the
    values of a smaller k and more. Values are ranked by signed attribution, so the least important
    ones speak most against the label.

    Noise is drawn in the space to which models normalise, z = (x - mean) / sd. "gaussian", as in
    the paper's text, is N(0, 1) there: in [0, 1], type I adds sd times a standard normal number and
    type II sets mean + sd times one; the result is clipped to [0, 1]. "uniform", as in the authors'
    code, is uniform between the smallest and largest z of the image, and clipped to them.

    Args:
        counts: the k; None is `default_counts`.
        draws: draws of the noise and of the random order. The first draws do not depend on `draws`.
        unit: "values" ranks the channels of a pixel separately, as in the paper; "pixels" ranks
            pixels by the sum over their channels.
        noise: one of `NOISES`.
        mean, sd: normalisation, one number for all channels or one each, on the scale of [0, 1].
            The defaults are the means of `IMAGENET_MEAN` and `IMAGENET_SD`.
        orders: some of `ORDERS`.
        types: some of `TYPES`.
        batch: most images in one pass of the model; None fits the device.

    Raises:
        InputError: an unknown name, or a number outside its range.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> images, labels = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])
    >>> errors = InductiveNoise(counts=(1, 2), draws=5)(model, images, labels, images)
    >>> errors.wrong["importance", "I"].shape
    torch.Size([3, 5, 2])
    """

    counts: tuple[int, ...] | None = None
    draws: int = 1
    unit: str = "values"
    noise: str = "gaussian"
    mean: float | tuple[float, ...] = 0.449
    sd: float | tuple[float, ...] = 0.226
    orders: tuple[str, ...] = ORDERS
    types: tuple[str, ...] = TYPES
    batch: int | None = None

    def __post_init__(self) -> None:
        known(self.unit, UNITS, "unit")
        known(self.noise, NOISES, "noise")
        for order in self.orders:
            known(order, ORDERS, "order")
        for kind in self.types:
            known(kind, TYPES, "type of noise")
        if self.draws < 1:
            raise InputError(f"{self.draws} draws of noise; want at least 1")
        if self.batch is not None and self.batch < 1:
            raise InputError(f"a batch of {self.batch} images; want at least 1")
        positive = all(0 < sd < math.inf for sd in _numbers(self.sd))
        if not positive or not all(map(math.isfinite, _numbers(self.mean))):
            raise InputError(
                f"normalisation by mean {self.mean} and sd {self.sd}; want finite numbers, "
                "and an sd above 0"
            )

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        attribution: Tensor,
        generator: Randomness | None = None,
    ) -> NoiseErrors:
        """Return which images are misclassified under each noise (`Oracle.fooled`).

        This is meaningful for images that are classified correctly without noise.

        Args:
            model: in eval mode.
            images: (n, c, h, w) in [0, 1].
            labels: int64 (n,).
            attribution: signed attribution for the label, (n, c, h, w).
            generator: random numbers for noise, random orders and ties.

        Raises:
            InputError: the attribution is not finite or has another shape than the images, or a k
                is larger than the number of values.
        """
        check(images, attribution)
        oracle, random = Oracle(model, labels), generator or Randomness.default(images)
        counts = self._counts(images)
        limits = torch.tensor(counts, device=images.device)
        batch = self.batch or batch_size(images.device, images.shape[1:].numel() or 1)
        shape = (len(images), self.draws, len(counts))
        wrong = {
            (order, kind): torch.zeros(shape, dtype=torch.bool, device=images.device)
            for order in self.orders
            for kind in self.types
        }
        if not len(images):
            return NoiseErrors(counts, wrong)
        width = max(1, batch // len(counts))
        for rows in torch.arange(len(images), device=images.device).split(width):
            clean, own = images[rows], random.select(rows)
            part = attribution[rows]
            scores = by_pixel(part) if self.unit == "pixels" else part.flatten(1)
            by_score = [order for order in self.orders if order != "random"]
            place = {order: places(ranking(scores, order, own.fork(0)))[None] for order in by_score}
            together = max(1, width // len(rows))
            for numbers in torch.arange(self.draws, device=images.device).split(together):
                streams = [own.fork(1 + number) for number in numbers.tolist()]
                drawn = torch.stack([self.draw(clean, stream) for stream in streams])
                if "random" in self.orders:
                    place["random"] = torch.stack(
                        [places(ranking(scores, "random", stream.fork(0))) for stream in streams]
                    )
                several = torch.arange(len(counts), device=images.device).split(batch)
                for order, some in product(self.orders, several):
                    chosen = place[order] < limits[some].view(-1, 1, 1, 1)
                    mask = chosen.unflatten(3, (-1, *images.shape[2:]))
                    owners = oracle.select(rows.repeat(len(some) * len(streams)))
                    for kind in self.types:
                        noised = self.perturb(clean, mask, drawn, kind)
                        fooled = owners.fooled(noised.flatten(0, 2)).view(noised.shape[:3])
                        place_of = (rows[:, None, None], numbers[:, None], some)
                        wrong[order, kind][place_of] = fooled.permute(2, 1, 0)
        return NoiseErrors(counts, wrong)

    def draw(self, images: Tensor, random: Randomness) -> Tensor:
        """Return standard normal, or uniform numbers in [0, 1), of the shape of the images."""
        return random.normal(images) if self.noise == "gaussian" else random.uniform(images)

    def perturb(self, images: Tensor, mask: Tensor, drawn: Tensor, kind: str) -> Tensor:
        """Return the images, in [0, 1], with noise where the mask is true.

        Args:
            images: (n, c, h, w).
            mask: bool (..., n, c or 1, h, w).
            drawn: from `draw`, (..., n, c, h, w).
            kind: type of the noise.
        """
        mean, sd = _by_channel(self.mean, images), _by_channel(self.sd, images)
        standard = (images - mean) / sd
        if self.noise == "uniform":
            low = standard.amin((1, 2, 3), keepdim=True)
            high = standard.amax((1, 2, 3), keepdim=True)
            drawn = low + (high - low) * drawn
            noised = (standard + drawn if kind == "I" else drawn).clamp(low, high)
        else:
            noised = standard + drawn if kind == "I" else drawn
        return torch.where(mask, (noised * sd + mean).clamp_(0, 1), images)

    def _counts(self, images: Tensor) -> tuple[int, ...]:
        size = images.shape[2:].numel() * (1 if self.unit == "pixels" else images.shape[1])
        counts = default_counts(size) if self.counts is None else tuple(self.counts)
        if not counts or not all(1 <= k <= size for k in counts):
            raise InputError(
                f"noise on {list(counts)} {self.unit} of images that have {size}; "
                f"give numbers from 1 to {size}"
            )
        return counts


def _numbers(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _by_channel(value: float | tuple[float, ...], images: Tensor) -> Tensor:
    """Return (1, 1, 1) or (c, 1, 1)."""
    numbers = _numbers(value)
    if len(numbers) not in (1, images.shape[1]):
        raise InputError(
            f"normalisation by {len(numbers)} numbers for images of {images.shape[1]} channels; "
            "give one a channel"
        )
    return images.new_tensor(numbers).view(-1, 1, 1)
