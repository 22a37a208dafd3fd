"""How much of the loss in a ball one gradient step finds, beside an iterated ascent (Tramer et al. 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from scotoma.attacks.core.losses import cross_entropy
from scotoma.attacks.core.oracle import Oracle
from scotoma.claim import Threat
from scotoma.utils.device import batch_size
from scotoma.utils.random import Randomness
from scotoma.utils.stats import RESAMPLES, Estimate


@dataclass(frozen=True)
class Linearity:
    """Of each image, (n,): cross-entropies, and how much the two perturbations agree.

    A loss that is linear in the ball has a ratio and a cosine of 1. Both fall towards 0 where the gradient at the image points
    elsewhere than the loss rises. A model without gradients moves no image: its ratio is 1, and it has no cosine.
    """

    clean: Tensor
    """at the image itself"""
    single: Tensor
    """after one step to the edge of the ball (FGSM)"""
    iterated: Tensor
    """the highest met by iterated steps, from the image itself and from each random start"""
    cosine: Tensor
    """between the perturbations of one step and of all steps from the image itself; NaN where either is 0"""

    @property
    def ratio(self) -> Estimate:
        """Mean loss of the single step over that of the iterated ascent; NaN where the latter is 0.

        The interval is bootstrapped over images. Those with a loss that is not finite are left out of it, and of n.
        """
        return _ratio_of_means(self.single, self.iterated)

    @property
    def mean_cosine(self) -> Estimate:
        """Over the images that have a cosine, with its bootstrap interval; NaN where none has."""
        return _ratio_of_means(self.cosine, torch.ones_like(self.cosine))


def linearity(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    steps: int = 10,
    restarts: int = 0,
    random: Randomness | None = None,
) -> Linearity:
    """Compare one gradient step with many, in `steps` (1 + `restarts`) passes an image and two or three more.

    From the image itself steps are eps / steps long, as in the paper; from a random start 2.5 eps / steps, as in PGD. No image
    leaves early, whatever its label.

    Args:
        model: in eval mode; gradients are taken by the images alone.
        images: (n, c, h, w) in [0, 1].
        labels: int64 (n,).
        threat: the ball, L-inf or L2.
        steps: of each ascent, at least 1.
        restarts: ascents from random starts.
        random: of the starts.
    """
    oracle, random = Oracle(model, labels), random or Randomness.default(images)
    batch = batch_size(images.device, images.shape[1:].numel())
    measured = [
        _measure(oracle.select(rows), images[rows], threat, steps, restarts, random.select(rows))
        for rows in torch.arange(len(images), device=images.device).split(batch)
    ]
    return Linearity(*map(torch.cat, zip(*measured, strict=True)))


def _measure(
    oracle: Oracle, images: Tensor, threat: Threat, steps: int, restarts: int, random: Randomness
) -> tuple[Tensor, ...]:
    """The fields of `Linearity` of a batch."""
    gradient, clean, _ = oracle.value_and_grad(images, cross_entropy)
    step = threat.steepest(gradient)
    single = threat.project(images + step, images)
    last, iterated = _climb(
        oracle, threat.project(images + step / steps, images), images, threat, steps - 1, 1 / steps
    )
    iterated = iterated.fmax(clean)
    for _ in range(restarts):
        start = threat.project(images + threat.eps * (2 * random.uniform(images) - 1), images)
        iterated = iterated.fmax(_climb(oracle, start, images, threat, steps, 2.5 / steps)[1])
    return clean, _loss(oracle, single), iterated, _cosine(single - images, last - images)


def _climb(
    oracle: Oracle, x: Tensor, images: Tensor, threat: Threat, steps: int, stride: float
) -> tuple[Tensor, Tensor]:
    """Where `steps` of `stride` times eps lead from `x`, and the highest loss on the way, both ends included."""
    highest = torch.full((len(x),), math.nan, device=x.device)  # which fmax takes for no number
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
    """With its bootstrap interval (percentile), over the images where both are finite."""
    both = torch.stack([above.double(), below.double()]).cpu().numpy()
    both = both[:, np.isfinite(both).all(0)]
    n = both.shape[1]
    total = both.sum(1)
    if not total[1] > 0:
        return Estimate(math.nan, math.nan, math.nan, n)
    drawn = both[:, np.random.default_rng(0).integers(n, size=(RESAMPLES, n))].sum(2)
    low, high = np.quantile(np.divide(*drawn[:, drawn[1] > 0]), [0.025, 0.975])
    return Estimate(float(total[0] / total[1]), float(low), float(high), n)
