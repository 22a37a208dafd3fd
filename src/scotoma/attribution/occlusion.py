"""Squares over the most important places: the inductive occlusion attack of Duan et al. (2023)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.attacks.core.active import Active
from scotoma.attacks.core.oracle import Oracle
from scotoma.attribution.colour import Colour, fill
from scotoma.attribution.ranking import ORDERS, by_pixel, check, known, ranking
from scotoma.metrics.inequality import default_block
from scotoma.utils.device import batch_size
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

CENTRES = ("regional", "pixel")
SETTINGS = ((5, 10), (10, 20))
"""The paper's (regions, radius) for 224x224 images: at most 4% and 32% of the pixels."""


class Occluded(NamedTuple):
    """The smallest covers of `InductiveOcclusion` that fool the model."""

    images: Tensor
    """Images with the cover, (n, c, h, w); unchanged where no cover fools or none is needed."""
    fooled: Tensor
    """Whether the image is misclassified, bool (n,)."""
    regions: Tensor
    """Number of squares, int64 (n,); 0 where none is needed or none fools."""
    radius: Tensor
    """Half their side, int64 (n,); 0 where none is needed or none fools."""
    covered: Tensor
    """Pixels covered, float32 (n,); 0 where none is needed, infinite where none fools."""


@dataclass(frozen=True)
class InductiveOcclusion:
    """Covers the n most important places with squares of radius r until the model is fooled.

    It tries n = 1 ... N and r = 1 ... R. The square of radius r about a pixel (i, j) covers rows
    i - r to i + r - 1 and columns j - r to j + r - 1, as in the authors' code: its side is 2r, cut
    at the edge of the image. "regional", as in the paper's text, ranks blocks by the sum of their
    signed attribution, centres squares on them, and tries all r before the next n. "pixel", as in
    the authors' code, ranks pixels by the mean over their channels, and tries all n
    before the next r.

    This is a search with up to N R tries, not one corruption. Compare it with the search in random
    order (`with_controls`), and the covered areas as well: important pixels lie close together, so
    squares about them overlap more than squares about random pixels.

    A fooled image leaves the batch. When few images are left, a pass evaluates several tries of
    each, and those after the first success are wasted.

    Args:
        regions: N.
        radius: R.
        colour: colour of the squares.
        centres: one of `CENTRES`.
        block: side of the blocks of "regional", which are cut at the edge; None is `default_block`,
            as in the paper 16 for 224x224 and 4 for 32x32.
        order: one of `ORDERS`.
        batch: most images in one pass of the model; None fits the device.
        stride: tries only every so-manieth radius, R among them; 1 tries all.

    Raises:
        InputError: an unknown name, or a number below 1.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> images, labels = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])
    >>> attack = InductiveOcclusion(regions=1, radius=1, centres="pixel")
    >>> attack(model, images, labels, attribution=images).covered.shape
    torch.Size([3])
    """

    regions: int
    radius: int
    colour: Colour = "black"
    centres: str = "regional"
    block: int | None = None
    order: str = "importance"
    batch: int | None = None
    stride: int = 1

    def __post_init__(self) -> None:
        known(self.centres, CENTRES, "centres")
        known(self.order, ORDERS, "order")
        for name in ("regions", "radius", "block", "batch", "stride"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"occlusion with {name} {value}; want at least 1")

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        attribution: Tensor,
        generator: Randomness | None = None,
    ) -> Occluded:
        """Search for a cover that fools the model (`Oracle.fooled`), for each image.

        Args:
            model: in eval mode.
            images: (n, c, h, w) in [0, 1].
            labels: int64 (n,).
            attribution: signed attribution for the label, (n, c, h, w).
            generator: random numbers for random centres and for ties.

        Raises:
            InputError: the attribution is not finite or has another shape than the images, the
                images have fewer blocks or pixels than `regions`, or the colour does not fit them.
        """
        check(images, attribution)
        colour = fill(images, self.colour)
        random = generator or Randomness.default(images)
        batch = self.batch or batch_size(images.device, images.shape[1:].numel() or 1)
        zeros = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        infinite = torch.full((len(images),), torch.inf, device=images.device)
        result = Occluded(images.clone(), zeros.bool(), zeros, zeros.clone(), infinite)
        steps = torch.tensor(self.steps, device=images.device)
        if not len(images):
            return result
        for rows in torch.arange(len(images), device=images.device).split(batch):
            centres = self.places(attribution[rows], random.select(rows))
            reach = map(_reach, centres, images.shape[2:])
            search = _Search(Oracle(model, labels[rows], rows), images[rows], colour[rows], *reach)
            search.run(steps, batch, result)
        return result

    @property
    def steps(self) -> list[tuple[int, int]]:
        """The pairs (n, r) in the order in which they are tried."""
        numbers = range(1, self.regions + 1)
        radii = range(self.radius, 0, -self.stride)[::-1]
        if self.centres == "regional":
            return list(product(numbers, radii))
        return [(n, r) for r, n in product(radii, numbers)]

    def places(self, attribution: Tensor, random: Randomness) -> tuple[Tensor, Tensor]:
        """Return rows and columns of the centres, int64 (n, regions) each, the first first.

        Raises:
            InputError: there are fewer blocks or pixels.
        """
        height, width = attribution.shape[2:]
        block = self.block or default_block(height, width)
        scores, columns = by_pixel(attribution), width
        if self.centres == "regional":
            sums = attribution.sum(1, keepdim=True)
            total = F.avg_pool2d(sums, block, ceil_mode=True, divisor_override=1)
            columns, scores = total.shape[3], total.flatten(1)
        if self.regions > scores.shape[1]:
            what = f"blocks of {block}x{block}" if self.centres == "regional" else "pixels"
            raise InputError(
                f"occlusion of {self.regions} regions on images with {scores.shape[1]} {what}; "
                "give fewer regions"
            )
        first = ranking(scores, self.order, random.fork(0))[:, : self.regions]
        row, column = first // columns, first % columns
        if self.centres == "regional":
            row, column = _middle(row, block, height), _middle(column, block, width)
        return row, column


def with_controls(
    attack: InductiveOcclusion,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attribution: Tensor,
    generator: Randomness | None = None,
    draws: int = 1,
) -> dict[str, list[Occluded]]:
    """Run the search in each of `ORDERS`, `draws` times with different centres for "random"."""
    random = generator or Randomness.default(images)
    return {
        order: [
            replace(attack, order=order)(model, images, labels, attribution, random.fork(number))
            for number in range(draws if order == "random" else 1)
        ]
        for order in ORDERS
    }


@dataclass
class _Search(Active):
    """The images that are not yet fooled."""

    clean: Tensor
    colour: Tensor
    """(n, c, 1, 1)"""
    down: Tensor
    """Smallest radius at which each square covers each row, (n, N, h)."""
    across: Tensor
    """Smallest radius at which each square covers each column, (n, N, w)."""

    def run(self, steps: Tensor, batch: int, result: Occluded) -> None:
        """Try the steps (n, r), int64 (t, 2), in turn, and write successes into `result`."""
        wrong = self.oracle.fooled(self.clean)
        result.fooled[self.rows[wrong]] = True
        result.covered[self.rows[wrong]] = 0
        self.drop(wrong)
        tried = 0
        while len(self) and tried < len(steps):
            some = steps[tried : tried + max(1, batch // len(self))]
            tried += len(some)
            mask = self.mask(some)
            images = torch.where(mask[:, :, None], self.colour, self.clean)
            owners = torch.arange(len(self), device=steps.device).repeat(len(some))
            fooled = self.oracle.select(owners).fooled(images.flatten(0, 1)).view(len(some), -1)
            done = fooled.any(0)
            image = done.nonzero().squeeze(1)
            step = fooled.to(torch.uint8).argmax(0)[image]
            rows = self.rows[image]
            result.images[rows], result.fooled[rows] = images[step, image], True
            result.regions[rows], result.radius[rows] = some[step].unbind(1)
            result.covered[rows] = mask[step, image].sum((1, 2)).float()
            self.drop(done)

    def mask(self, steps: Tensor) -> Tensor:
        """Return the pixels that the squares of each step cover, bool (t, n, h, w)."""
        number, radius = (part.view(-1, 1, 1, 1) for part in steps.unbind(1))
        used = torch.arange(self.down.shape[1], device=steps.device).view(1, 1, -1, 1) < number
        down, across = (self.down <= radius) & used, self.across <= radius
        # The product counts the squares that contain a pixel.
        return (down.float().transpose(2, 3) @ across.float()) > 0


def _middle(number: Tensor, block: int, size: int) -> Tensor:
    """Return the centres of blocks along a side; the last block may be cut."""
    start = number * block
    return (start + (start + block).clamp_max(size)) // 2


def _reach(centres: Tensor, size: int) -> Tensor:
    """Return the radius at which squares about `centres` (n, N) reach each row, (n, N, size)."""
    distance = torch.arange(size, device=centres.device) - centres[:, :, None]
    return torch.where(distance < 0, -distance, distance + 1)
