"""Sets of images, moved and then transported against a price of distance: what the distributional certificate is held against."""

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
from scotoma.probes.blindspots.probe import HARMLESS, move
from scotoma.utils.stats import Estimate, mean

SAMPLED = 100
"""Images whose curvature is estimated."""


@dataclass(frozen=True)
class Shifted:
    """Images at (alpha, beta) of scale-shift, transported at a price; `frame` has a row an image.

    Its columns: `right`, `moved_loss` and `moved_distance` after the move, `loss` and `distance` after the transport. Distances
    are squared L2, from the image before the move.
    """

    alpha: float
    beta: float
    frame: pl.DataFrame

    def mean(self, column: str) -> Estimate:
        return mean(self.frame[column].to_numpy())

    def worth(self, gamma: float, moved: bool = False) -> np.ndarray:
        """Loss less the price of the distance, after the transport or after the move alone."""
        end = "moved_" if moved else ""
        return (self.frame[f"{end}loss"] - gamma * self.frame[f"{end}distance"]).to_numpy()

    def is_harmless(self, base: Shifted) -> bool:
        """Whether the move costs at most a point of the accuracy without one."""
        slack = 1e-9  # 0.96 - 0.01 is more than 0.95 in binary
        return self.mean("right").value >= base.mean("right").value - HARMLESS - slack


@dataclass(frozen=True)
class Line:
    """The certificate, loss <= gamma rho + phi."""

    gamma: float
    phi: Estimate

    def at(self, rho: float) -> float:
        """What it allows at a mean squared distance."""
        return self.gamma * rho + self.phi.value

    def crossings(self, sets: Sequence[Shifted]) -> int:
        """How many sets, moved or transported, have a mean loss above what is allowed, by more than both intervals."""
        points = [
            (found.mean(f"{end}distance"), found.mean(f"{end}loss"))
            for found in sets
            for end in ("", "moved_")
        ]
        return sum(loss.low > self.gamma * rho.value + self.phi.high for rho, loss in points)


def shift(
    run: Run, split: Split, indices: Tensor, alpha: float, beta: float, gamma: float
) -> Shifted:
    """Move images of a split of the run's data and transport them at the price `gamma`; computed once for a run folder."""
    transform = move(alpha, beta)

    def compute() -> pl.DataFrame:
        frames = []
        with run.progress.bar(
            f"  {transform or 'no move'}, gamma {gamma:.3g}", len(indices)
        ) as advance:
            for batch in indices.split(run.batch_size):
                images, labels = (
                    split.images(batch).to(run.device),
                    split.labels[batch].to(run.device),
                )
                moved = transform(images) if transform else images
                found = transport(run.model, moved, labels, gamma)
                with torch.no_grad():
                    logits, worst = run.model(moved), run.model(found)
                values = {
                    "right": logits.argmax(1) == labels,
                    "moved_loss": losses(logits, labels),
                    "moved_distance": (moved - images).flatten(1).square().sum(1),
                    "loss": losses(worst, labels),
                    "distance": (found - images).flatten(1).square().sum(1),
                }
                frames.append(
                    pl.DataFrame(
                        {name: value.double().cpu().numpy() for name, value in values.items()}
                    )
                )
                advance(len(batch))
        return pl.concat(frames)

    drawn = {"split": "test" if split is run.claim.data.test else "train", "seed": run.seed}
    config = {"gamma": gamma, "transform": describe(transform) if transform else None, **drawn}
    return Shifted(alpha, beta, run.table("transport", config, compute))


def curved_share(run: Run, gamma: float) -> float:
    """Share of the first test images that are transported to where the inner problem is not concave, at least."""
    split, sample = run.claim.data.test, run.indices[:SAMPLED]

    def compute() -> pl.DataFrame:
        images, labels = split.images(sample).to(run.device), split.labels[sample].to(run.device)
        generator = torch.Generator(run.device).manual_seed(run.seed)
        found = curvature(
            run.model, transport(run.model, images, labels, gamma), labels, generator=generator
        )
        return pl.DataFrame({"curvature": found.cpu().numpy()})

    table = run.table(
        "curvature", {"gamma": gamma, "seed": run.seed, "images": len(sample)}, compute
    )
    return float(np.mean(table["curvature"].to_numpy() > 2 * gamma))


def beaten(base: Shifted, moved: Sequence[Shifted], gamma: float) -> int:
    """Images for which a move, transported or not, is worth more than the maximum found for the image itself."""
    maximum = base.worth(gamma)
    others = np.max(
        [each.worth(gamma, alone) for each in (base, *moved) for alone in (False, True)], 0
    )
    return int(
        (others > maximum + 1e-3 * (1 + abs(maximum))).sum()
    )  # ascent comes near a maximum, not to it
