"""How well one gradient step follows a model's loss, how large its gradients are, and in how many directions images fall."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from scotoma.claim import Threat
from scotoma.execution.run import Run
from scotoma.execution.sampling import UNIT
from scotoma.metrics.health import gradient_health
from scotoma.metrics.linearity import Linearity, loss_linearity
from scotoma.metrics.subspace import adversarial_directions, orders_within
from scotoma.papers.item import Context
from scotoma.papers.tramer2018 import drawn, published
from scotoma.utils.random import Randomness
from scotoma.utils.stats import RESAMPLES, Estimate

STEPS = 10
"""Of the iterated attack."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found at a model's images.

    Args:
        steps: losses and perturbations of one step and of many.
        norms: L2 norms of the cross-entropy's gradient by the image, (n,).
        directions: by size, how many orthogonal directions are adversarial, int (images,); of images that the model has right.
        orders: numbers of directions that were tried.
    """

    steps: Linearity
    norms: np.ndarray
    directions: dict[float, np.ndarray]
    orders: tuple[int, ...]

    @property
    def norm(self) -> Estimate:
        """The mean norm, over the images that have one, with its 95% bootstrap interval (percentile); NaN where there is none."""
        known = self.norms[np.isfinite(self.norms)]
        n = len(known)
        if n == 0:
            return Estimate(math.nan, math.nan, math.nan, 0)
        drawn = known[np.random.default_rng(0).integers(n, size=(RESAMPLES, n))].mean(1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        return Estimate(float(known.mean()), float(low), float(high), n)


def diagnose(context: Context, model: str, shares: tuple[float, ...] = ()) -> Diagnosis:
    """Look at a reference model on the images of the study, and for directions at as many of them that it has right as the paper.

    Args:
        context: the images and the work that is done already.
        model: its name.
        shares: sizes of the directions as shares of eps.
    """
    run = drawn(context, model)
    threat, orders = run.claim.threat, orders_within(math.prod(run.claim.data.shape))
    lines = _by_unit(run, "linearity", {"steps": STEPS}, lambda *batch: _lines(run, *batch))
    steps = Linearity(
        *(
            torch.from_numpy(lines[field.name].to_numpy(writable=True))
            for field in fields(Linearity)
        )
    )
    found = {}
    for size in (Threat(threat.norm, share * threat.eps) for share in shares):
        few = run.subset(run.correct_indices(min(len(run.indices), published.FIGURE2.images)))
        config = {"eps": size.eps, "orders": orders, "seed": run.seed}
        work = _by_unit(
            few,
            "directions",
            config,
            lambda *batch, size=size: _directions(run, size, orders, *batch),
        )
        found[size.eps] = work["directions"].to_numpy()
    return Diagnosis(steps, lines["norm"].to_numpy(), found, orders)


def _by_unit(
    run: Run,
    kind: str,
    config: dict[str, Any],
    work: Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]],
) -> pl.DataFrame:
    """Columns of values for a run's images, kept unit by unit; `work` maps indices, images and labels to them."""
    frames, split = [], run.claim.data.test
    with run.progress.bar(f"  {run.claim.model.name}, {kind}", len(run.indices)) as advance:
        for indices in run.indices.split(UNIT):

            def compute(indices: Tensor = indices) -> pl.DataFrame:
                found = work(
                    indices,
                    split.images(indices).to(run.device),
                    split.labels[indices].to(run.device),
                )
                return pl.DataFrame(
                    {
                        name: values.cpu().numpy()
                        for name, values in {"index": indices, **found}.items()
                    }
                )

            frames.append(run.subset(indices).table(f"tramer2018 {kind}", config, compute))
            advance(len(indices))
    return pl.concat(frames)


def _lines(run: Run, indices: Tensor, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    steps = loss_linearity(run.model, images, labels, run.claim.threat, STEPS)
    norms = gradient_health(run.model, images, labels).cross_entropy.l2
    return {field.name: getattr(steps, field.name) for field in fields(Linearity)} | {"norm": norms}


def _directions(
    run: Run, size: Threat, orders: tuple[int, ...], indices: Tensor, images: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    random = Randomness(run.seed, indices.to(run.device), "adversarial directions")
    return {
        "directions": adversarial_directions(run.model, images, labels, size, orders, random).amax(
            1
        )
    }
