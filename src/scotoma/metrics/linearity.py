"""How much of the loss in a ball one gradient step reaches, beside an iterated ascent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from scotoma.attacks.core.losses import cross_entropy
from scotoma.attacks.core.oracle import Oracle
from scotoma.threat import Threat
from scotoma.utils.device import batch_size
from scotoma.utils.random import Randomness
from scotoma.utils.stats import RESAMPLES, Estimate, percentiles


@dataclass(frozen=True)
class Linearity:
    """Cross-entropies (n,) at images and after perturbations, and how these perturbations agree.

    A loss that is linear in the ball has a ratio and a cosine of 1. Both fall towards 0 where the
    gradient at the image does not point to where the loss rises. A model without gradients leaves
    every image unchanged: its ratio is 1, and it has no cosine.
    """

    clean: Tensor
    """Loss at the image itself."""
    single: Tensor
    """Loss after one step to the edge of the ball (FGSM)."""
    iterated: Tensor
    """Highest loss during iterated steps, from the image itself and from each random start."""
    cosine: Tensor
    """Cosine between the perturbations of one step and of all steps from the image itself; NaN
    where either is 0."""

    @property
    def ratio(self) -> Estimate:
        """Mean loss of the single step over that of the iterated ascent; NaN where the latter is 0.

        The interval is bootstrapped over images; those with a loss that is not finite do not count.
        """
        return _ratio_of_means(self.single, self.iterated)

    @property
    def mean_cosine(self) -> Estimate:
        """Mean cosine over the images that have one, with its bootstrap interval; else NaN."""
        return _ratio_of_means(self.cosine, torch.ones_like(self.cosine))


def loss_linearity(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    steps: int = 10,
    restarts: int = 0,
    random: Randomness | None = None,
) -> Linearity:
    """Compare one gradient step with many: the loss ratio and the cosine of Tramer et al. 2018.

    It takes `steps` (1 + `restarts`) passes for each image and two or three more. From the image
    itself steps are eps / steps long, as in the paper; from a random start 2.5 eps / steps, as in
    PGD. No image stops early, whatever its label.

    Args:
        model: in eval mode; gradients are those with respect to the images.
        images: (n, c, h, w) in [0, 1].
        labels: int64 (n,).
        threat: the ball, L-inf or L2.
        steps: steps of each ascent, at least 1.
        restarts: ascents from random starts.
        random: random numbers for the starts.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> images, labels = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 1])
    >>> measured = loss_linearity(model, images, labels, Threat("linf", 0.1))
    >>> round(measured.ratio.value, 3), round(measured.mean_cosine.value, 3)
    (1.0, 1.0)
    """
    oracle, random = Oracle(model, labels), random or Randomness.default(images)
    batch = batch_size(images.device, images.shape[1:].numel())
    batches = [
        _measure(oracle.select(rows), images[rows], threat, steps, restarts, random.select(rows))
        for rows in torch.arange(len(images), device=images.device).split(batch)
    ]
    return Linearity(*map(torch.cat, zip(*batches, strict=True)))


def _measure(
    oracle: Oracle, images: Tensor, threat: Threat, steps: int, restarts: int, random: Randomness
) -> tuple[Tensor, ...]:
    """Return the fields of `Linearity` for a batch."""
    gradient, clean, _ = oracle.value_and_grad(images, cross_entropy)
    step = threat.steepest(gradient)
    single = threat.project(images + step, images)
    start = threat.project(images + step / steps, images)
    last, iterated = _climb(oracle, start, images, threat, steps - 1, 1 / steps)
    iterated = iterated.fmax(clean)
    for _ in range(restarts):
        start = threat.project(images + threat.eps * (2 * random.uniform(images) - 1), images)
        iterated = iterated.fmax(_climb(oracle, start, images, threat, steps, 2.5 / steps)[1])
    return clean, _loss(oracle, single), iterated, _cosine(single - images, last - images)


def _climb(
    oracle: Oracle, x: Tensor, images: Tensor, threat: Threat, steps: int, stride: float
) -> tuple[Tensor, Tensor]:
    """Ascend from `x` in steps of `stride` times eps; return the end and the highest loss."""
    highest = torch.full((len(x),), math.nan, device=x.device)  # fmax ignores NaN
    for _ in range(steps):
        gradient, loss, _ = oracle.value_and_grad(x, cross_entropy)
        highest = highest.fmax(loss)
        x = threat.project(x + threat.steepest(gradient).mul_(stride), images)
    return x, highest.fmax(_loss(oracle, x))


def _loss(oracle: Oracle, x: Tensor) -> Tensor:
    return cross_entropy(oracle.logits(x), oracle.labels)


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    a, b = first.flatten(1).double(), second.flatten(1).double()
    return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).clamp(-1, 1)


def _ratio_of_means(above: Tensor, below: Tensor) -> Estimate:
    """Return the ratio with its bootstrap interval (percentile), over images with finite values."""
    pairs = torch.stack([above.double(), below.double()]).cpu().numpy()
    pairs = pairs[:, np.isfinite(pairs).all(0)]
    n = pairs.shape[1]
    total = pairs.sum(1)
    if not total[1] > 0:
        return Estimate(math.nan, math.nan, math.nan, n)
    resampled = pairs[:, np.random.default_rng(0).integers(n, size=(RESAMPLES, n))].sum(2)
    ends = percentiles(np.divide(*resampled[:, resampled[1] > 0]))
    return Estimate(float(total[0] / total[1]), *ends, n)
