"""Transported images, against which the distributional certificate is checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from scotoma.certificates.wasserstein import curvature, losses, transport
from scotoma.data.dataset import Split
from scotoma.execution.run import Run, describe
from scotoma.probes.blindspots.definition import LIMITS
from scotoma.probes.blindspots.transformed import classified, contrast_shift, untouched
from scotoma.utils.stats import UNDEFINED, Estimate, mean

SAMPLED = 100
"""Number of images whose curvature is estimated."""


@dataclass(frozen=True)
class TransportedSet:
    """Images after a contrast shift, transported at a price of distance.

    Args:
        alpha, beta: the contrast shift.
        frame: a row for each image: `right`, `moved_loss` and `moved_distance` after the contrast
            shift, `loss` and `distance` after the transport. Distances are squared L2, from the
            image before the contrast shift.
        cost: the accuracy that the contrast shift costs on the whole test set, paired by image;
            NaN where there is no shift.
    """

    alpha: float
    beta: float
    frame: pl.DataFrame
    cost: Estimate = UNDEFINED

    @property
    def shifts(self) -> bool:
        """Whether there is a contrast shift; without one, the images are those of the data."""
        return (self.alpha, self.beta) != (1.0, 0.0)

    def mean(self, column: str) -> Estimate:
        """Return the mean of a column of `frame`."""
        return mean(self.frame[column].to_numpy())

    def worth(self, gamma: float, shifted: bool = False) -> np.ndarray:
        """Return loss minus gamma times distance, after the transport or the shift alone, (n,)."""
        prefix = "moved_" if shifted else ""
        return (self.frame[f"{prefix}loss"] - gamma * self.frame[f"{prefix}distance"]).to_numpy()

    @property
    def is_harmless(self) -> bool:
        """Whether the interval says that the contrast shift costs little enough."""
        return self.cost.high <= LIMITS.harmless


@dataclass(frozen=True)
class Bound:
    """The certificate: mean loss <= gamma rho + phi, for a mean squared distance rho."""

    gamma: float
    phi: Estimate

    def at(self, rho: float) -> float:
        """Return the largest mean loss that it allows at rho."""
        return self.gamma * rho + self.phi.value

    def contradictions(self, sets: Sequence[TransportedSet]) -> int:
        """Return how many sets, shifted or transported, exceed the bound beyond both intervals."""
        points = [
            (each.mean(f"{prefix}distance"), each.mean(f"{prefix}loss"))
            for each in sets
            for prefix in ("", "moved_")
        ]
        return sum(loss.low > self.gamma * rho.value + self.phi.high for rho, loss in points)


def transported(
    run: Run, split: Split, indices: Tensor, alpha: float, beta: float, gamma: float
) -> TransportedSet:
    """Shift the contrast of images and transport them at the price gamma, once for a run folder.

    Args:
        run: the run whose model is used.
        split: the training or test split of its data.
        indices: int64 (n,), images of the split.
        alpha, beta: the contrast shift.
        gamma: price of a squared L2 distance of 1.
    """
    transform = contrast_shift(alpha, beta)

    def measure(batch: Tensor) -> pl.DataFrame:
        images, labels = split.images(batch).to(run.device), split.labels[batch].to(run.device)
        shifted = transform(images) if transform else images
        ascended = transport(run.model, shifted, labels, gamma)
        with torch.no_grad():
            logits, attacked = run.model(shifted), run.model(ascended)
        values = {
            "right": logits.argmax(1) == labels,
            "moved_loss": losses(logits, labels),
            "moved_distance": (shifted - images).flatten(1).square().sum(1),
            "loss": losses(attacked, labels),
            "distance": (ascended - images).flatten(1).square().sum(1),
        }
        return pl.DataFrame({name: value.double().cpu().numpy() for name, value in values.items()})

    def compute() -> pl.DataFrame:
        frames, title = [], f"  {transform or 'no contrast shift'}, gamma {gamma:.3g}"
        with run.progress.bar(title, len(indices)) as advance:
            for batch in indices.split(run.batch_size):
                frames.append(measure(batch))
                advance(len(batch))
        return pl.concat(frames)

    origin = {"split": "test" if split is run.claim.data.test else "train", "seed": run.seed}
    config = {"gamma": gamma, "transform": describe(transform) if transform else None, **origin}
    return TransportedSet(alpha, beta, run.table("transport", config, compute))


def shift_cost(run: Run, alpha: float, beta: float) -> Estimate:
    """Return the accuracy that a contrast shift costs on the test set, as `blindspots` does."""
    after, before = (
        classified(run, untouched(run, each)) for each in (contrast_shift(alpha, beta), None)
    )
    return after.cost(before)


def curved_share(run: Run, gamma: float) -> float:
    """Return the share of images that are transported to where the inner problem is not concave.

    It is a lower estimate, from the first test images of the run.
    """
    split, sample = run.claim.data.test, run.indices[:SAMPLED]

    def compute() -> pl.DataFrame:
        images, labels = split.images(sample).to(run.device), split.labels[sample].to(run.device)
        generator = torch.Generator(run.device).manual_seed(run.seed)
        ascended = transport(run.model, images, labels, gamma)
        curved = curvature(run.model, ascended, labels, generator=generator)
        return pl.DataFrame({"curvature": curved.cpu().numpy()})

    config = {"gamma": gamma, "seed": run.seed, "images": len(sample)}
    table = run.table("curvature", config, compute)
    return float(np.mean(table["curvature"].to_numpy() > 2 * gamma))
