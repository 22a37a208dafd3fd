"""What is measured at each image: how unequal its attribution is, and what noise and squares do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl
import torch
from torch import Tensor

from scotoma.attacks import make
from scotoma.attribution import ATTRIBUTIONS
from scotoma.attribution.colour import COLOURS
from scotoma.attribution.noise import InductiveNoise, default_counts
from scotoma.attribution.occlusion import InductiveOcclusion
from scotoma.data.dataset import Dataset
from scotoma.execution.fingerprint import describe
from scotoma.execution.records import fallen, is_correct
from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled
from scotoma.metrics.inequality import POINTS
from scotoma.papers.duan2023 import published
from scotoma.papers.item import Context
from scotoma.probes.inequality.measurements import Measures, moments
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.stats import Rate, rate

UNIT = 50
"""Images that are examined together; an item that is stopped loses at most these."""
NOISE_DRAWS = 5
"""Draws of the paper's noise; the authors' code makes one."""
CENTRE_DRAWS = 2
"""Draws of random places to cover."""
NOISED = {"gradient-shap": 0.01, "smoothgrad": 0.2}
"""Attribution methods that add noise, with its standard deviation on standardised images (the
authors' code)."""
ATTACK = "strong"
"""Attack that measures robust accuracy."""


def measures(data: Dataset, method: str = "integrated-gradients") -> Measures:
    """Return the paper's measurements; its standardised images are images in [0, 1] here."""
    mean, sd = channels(data)
    noise = {"noise": tuple(NOISED[method] * each for each in sd)} if method in NOISED else {}
    scale = {"counts": default_counts(math.prod(data.shape)), "mean": mean, "sd": sd}
    covers = product(settings(*data.shape[1:]), COLOURS)
    return Measures(
        ATTRIBUTIONS[method](baseline=mean, **noise),
        (
            InductiveNoise(draws=NOISE_DRAWS, **scale),
            InductiveNoise(noise="uniform", orders=("importance", "random"), **scale),
        ),
        tuple(
            InductiveOcclusion(*setting, mean if colour == "gray" else colour)
            for setting, colour in covers
        ),
        mean,
        CENTRE_DRAWS,
        POINTS,
        same_centres=False,
    )


def channels(data: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel over the training images.

    They have six digits, which the order of summation cannot change: they are hashed with the work.
    """
    split = data.train or data.test
    means, sds = (
        tuple(float(f"{value:.6g}") for value in moment.tolist())
        for moment in moments(split, torch.arange(len(split)))
    )
    return means, sds


def settings(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Return the paper's (regions, radius) for smaller images.

    The radius is scaled with the image and at least 1. There are at most as many regions as in the
    paper, and side by side they cover at most the paper's share of the image (4% and 32%).
    """
    scaled = []
    for regions, radius in published.SETTINGS:
        share = regions * (2 * radius) ** 2 / published.SIDE**2
        scaled_radius = max(1, int(radius * min(height, width) / published.SIDE + 0.5))
        most_regions = int(share * height * width / (2 * scaled_radius) ** 2 + 0.5)
        scaled.append((max(1, min(regions, most_regions)), scaled_radius))
    return tuple(scaled)


@dataclass(frozen=True)
class Measurements:
    """A model's measurements; images are in the same order for all models of a study.

    Args:
        model: name of the reference model.
        run: run of the model on these images.
        frame: columns of the examination.
        examination: what was measured.
    """

    model: str
    run: Run
    frame: pl.DataFrame
    examination: Measures

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def accuracy(self) -> Rate:
        """Accuracy on all test images."""
        return rate(is_correct(self.run.predictions()))

    @property
    def values(self) -> int:
        """Number of sub-pixels of an image."""
        return math.prod(self.run.claim.data.shape)

    @property
    def middle(self) -> int:
        """The count of noised sub-pixels at which errors are compared."""
        return max(1, round(published.MIDDLE * self.values))

    @property
    def counts(self) -> tuple[int, ...]:
        """The paper's counts as shares of an image, at least 1, no repeats."""
        return default_counts(self.values)

    @property
    def settings(self) -> list[tuple[int, int]]:
        """(regions, radius) of occlusion, the smaller first."""
        return list(dict.fromkeys((o.regions, o.radius) for o in self.examination.occlusions))

    def column(self, name: str) -> np.ndarray:
        return self.frame[name].to_numpy()

    def gini(self, over: str = "global", convention: str = "absolute") -> np.ndarray:
        """Return Gini coefficients, (n,)."""
        return self.column(f"gini {over} {convention}")

    def deletion(self, order: str) -> np.ndarray:
        """Return areas under the probability of the true class as pixels are removed, (n,)."""
        return self.column(f"deletion {order}")

    def noise(
        self, kind: str, order: str = "importance", k: int | None = None, noise: str = "gaussian"
    ) -> np.ndarray:
        """Return the share of draws with an error, (n,); k values are noised, None is `middle`."""
        column = self.counts.index(self.middle if k is None else k)
        return self.column(f"noise {noise} {kind} {order}")[:, column]

    def occlusion(
        self, setting: int, colour: str, order: str = "importance", what: str = "error"
    ) -> np.ndarray:
        """Return the share of draws with an error, or pixels "covered" in the first draw, (n,).

        `setting` is an index into `settings`.
        """
        regions, radius = self.settings[setting]
        return self.column(f"{what} {regions} {radius} {colour} {order}")


Models = dict[str, Measurements]
"""Models by the size trained for, natural training first, or by training."""


def common(context: Context, models: tuple[str, ...], n: int = published.IMAGES) -> Tensor:
    """Return at most n test images that all models classify correctly, int64, in random order.

    Raises `InputError` if there are none.
    """
    correct = np.all([is_correct(context.run(model).predictions()) for model in models], axis=0)
    order = shuffled(len(correct), context.seed)
    indices = order[torch.from_numpy(correct)[order]][: min(context.limit or n, n)]
    if not len(indices):
        raise InputError(
            f"no test image is classified correctly by all of {', '.join(models)}: there is "
            "nothing to compare them on"
        )
    return indices


def measure(
    context: Context,
    models: dict[str, str],
    method: str = "integrated-gradients",
    n: int = published.IMAGES,
) -> Models:
    """Examine reference models on images that all of them classify correctly.

    Work is stored by position in the random order, so items with other models share it and a
    higher limit reuses it.
    """
    indices = common(context, tuple(models.values()), n)
    selection, results = pl.DataFrame({"index": indices.numpy()}), {}
    for name, model in models.items():
        run = context.run(model)
        order = shuffled(len(run.claim.data.test), run.seed)
        end = int((order == indices[-1]).nonzero())
        examination, frames = measures(run.claim.data, method), []
        config = describe(examination)
        with context.progress.bar(f"  {model}, {method}", end + 1) as advance:
            for unit in order[: UNIT * (end // UNIT + 1)].split(UNIT):
                subset = run.subset(unit.sort().values)
                frames.append(subset.map_images("duan2023 examination", config, examination))
                advance(len(unit))
        examined = pl.concat([frame for frame in frames if len(frame)])
        frame = selection.join(examined, on="index", maintain_order="left")
        results[name] = Measurements(model, run.subset(indices), frame, examination)
    return results


def robust_images(context: Context, model: str, threat: Threat) -> np.ndarray:
    """Return which random test images a model classifies correctly under attack, bool (n,)."""
    attack = make(context.attack or ATTACK, threat)
    sample = context.sample(model, published.IMAGES)
    records = sample.attack(attack, what=f"  attacking {model}").sort("index")
    return is_correct(records) & ~fallen(records, threat.eps, threat.norm)
