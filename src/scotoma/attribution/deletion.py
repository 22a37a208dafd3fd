"""How a prediction changes as pixels are deleted or inserted (Petsiuk et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.oracle import Oracle
from scotoma.attribution.colour import Colour, fill
from scotoma.attribution.ranking import ORDERS, by_pixel, check, places, ranking
from scotoma.utils.device import batch_size
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

FRACTIONS = tuple(step / 20 for step in range(21))
"""Fractions of the pixels, in steps of 5%."""

_BACKWARDS = {"importance": "reverse", "random": "random", "reverse": "importance"}


class Curve(NamedTuple):
    """Predictions for each image after the deletion, or insertion, of a fraction of its pixels."""

    fractions: Tensor
    """Fractions of the pixels, rounded to whole pixels, float32 (f,), from 0 to 1."""
    probability: Tensor
    """Probability of the label, float32 (n, f)."""
    correct: Tensor
    """Whether the image is classified correctly, bool (n, f): not `Oracle.fooled`."""

    @property
    def area(self) -> Tensor:
        """Area under the probability by the trapezoid rule, float32 (n,) in [0, 1]."""
        return torch.trapezoid(self.probability, self.fractions, dim=1)

    @property
    def accuracy(self) -> Tensor:
        """Share of images classified correctly, float32 (f,)."""
        return self.correct.float().mean(0)


def deletion_and_insertion(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attribution: Tensor,
    fractions: Sequence[float] = FRACTIONS,
    baseline: Colour = 0.0,
    generator: Randomness | None = None,
    batch: int | None = None,
) -> dict[tuple[str, str], Curve]:
    """Return deletion and insertion curves, as in `curves["importance", "deletion"]`.

    Keys are an order of `ORDERS` and "deletion" or "insertion". Deletion paints the first pixels of
    the order, all channels of each, in the baseline colour; insertion starts from the baseline and
    restores the first pixels. Pixels are ranked by their signed attribution, summed over channels.
    A good map has a smaller area than the random order under deletion and a larger one under
    insertion.

    To insert the first k pixels of an order is to delete all but k in the reversed order. So
    insertion needs no passes of its own at symmetric fractions, such as the default, and its random
    order is the reversed random order of deletion.

    Args:
        model: in eval mode.
        images: (n, c, h, w) in [0, 1].
        labels: int64 (n,).
        attribution: signed attribution for the label, (n, c, h, w).
        fractions: fractions of the pixels, in [0, 1]; 0 and 1 are added.
        baseline: colour of deleted pixels.
        generator: random numbers for ties and the random order of each image.
        batch: most images in one pass of the model; None fits the device.

    Raises:
        InputError: the attribution is not finite or has another shape than the images, a fraction
            is outside [0, 1], the batch is below 1, or the colour does not fit the images.
    """
    check(images, attribution)
    if not all(0 <= fraction <= 1 for fraction in fractions):
        raise InputError(
            f"fractions {', '.join(map(str, fractions))} of the pixels; want numbers in [0, 1]"
        )
    if batch is not None and batch < 1:
        raise InputError(f"a batch of {batch} images; want at least 1")
    pixels = images.shape[2:].numel()
    if not pixels:
        raise InputError(f"images of {images.shape[2]}x{images.shape[3]} have no pixels to remove")
    counts = sorted({0, pixels} | {int(fraction * pixels + 0.5) for fraction in fractions})
    removed = sorted({*counts, *(pixels - count for count in counts)})
    random = generator or Randomness.default(images)
    batch = batch or batch_size(images.device, images.shape[1:].numel())
    steps = torch.tensor(removed, device=images.device)
    predicted = {
        order: _removed(
            Oracle(model, labels), images, attribution, order, steps, baseline, random, batch
        )
        for order in ORDERS
    }
    share = torch.tensor(counts, device=images.device) / pixels
    deleted = torch.tensor([removed.index(count) for count in counts], device=images.device)
    left = torch.tensor([removed.index(pixels - count) for count in counts], device=images.device)
    curves = {}
    for order in ORDERS:
        curves[order, "deletion"] = Curve(share, *(part[:, deleted] for part in predicted[order]))
        curves[order, "insertion"] = Curve(
            share, *(part[:, left] for part in predicted[_BACKWARDS[order]])
        )
    return curves


def _removed(
    oracle: Oracle,
    images: Tensor,
    attribution: Tensor,
    order: str,
    steps: Tensor,
    baseline: Colour,
    random: Randomness,
    batch: int,
) -> tuple[Tensor, Tensor]:
    """Return probability and correctness (n, steps) without the first pixels of the order."""
    probability = torch.empty(len(images), len(steps), device=images.device)
    correct = torch.empty_like(probability, dtype=torch.bool)
    colour = fill(images, baseline)
    if not len(images):
        return probability, correct
    for rows in torch.arange(len(images), device=images.device).split(max(1, batch // len(steps))):
        # Both orders by importance break ties alike.
        own = random.select(rows).fork(int(order == "random"))
        ranked = ranking(by_pixel(attribution[rows]), order, own)
        place = places(ranked).view(-1, 1, *images.shape[2:])
        for columns in torch.arange(len(steps), device=images.device).split(batch):
            mask = place < steps[columns].view(-1, 1, 1, 1, 1)
            owners = oracle.select(rows.repeat(len(columns)))
            logits = owners.logits(torch.where(mask, colour[rows], images[rows]).flatten(0, 1))
            chosen = logits.softmax(1).gather(1, owners.labels[:, None])
            block = (rows[:, None], columns)
            probability[block] = chosen.view(len(columns), -1).T
            correct[block] = ~fooled(logits, owners.labels).view(len(columns), -1).T
    return probability, correct
