"""What was found of each model of a sweep, on images that all of them have right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from scotoma.attacks import make
from scotoma.claim import Threat
from scotoma.execution.fingerprint import describe
from scotoma.execution.records import fallen
from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled
from scotoma.papers.duan2023 import UNIT, common, published
from scotoma.papers.duan2023.examination import (
    Examination,
    colour_of,
    counts,
    gini_column,
    middle,
    noise_column,
    occlusion_column,
)
from scotoma.papers.item import Context
from scotoma.utils.stats import Rate, rate

ATTACK = "strong"
"""By which robust accuracy is told."""


@dataclass(frozen=True)
class Measured:
    """A model, image by image; images are in the same order for all models of a study.

    Args:
        model: name of the reference model.
        run: of the model, on these images.
        frame: the columns of an `Examination`.
        examination: that was made.
    """

    model: str
    run: Run
    frame: pl.DataFrame
    examination: Examination

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def accuracy(self) -> Rate:
        """On all test images."""
        told = self.run.predictions()
        return rate((told["prediction"] == told["label"]).to_numpy())

    @property
    def middle(self) -> int:
        """How many sub-pixels are noised where one number is told."""
        return middle(self.run.claim.data)

    @property
    def counts(self) -> tuple[int, ...]:
        return counts(self.run.claim.data)

    @property
    def settings(self) -> list[tuple[int, int]]:
        """(regions, radius) of occlusion, the smaller first."""
        return list(
            dict.fromkeys((each.regions, each.radius) for each in self.examination.occlusions)
        )

    def gini(self, over: str = "global", convention: str = "absolute") -> np.ndarray:
        """Gini coefficients, (n,)."""
        return self.frame[gini_column(over, convention)].to_numpy()

    def noise(
        self, kind: str, order: str = "importance", k: int | None = None, noise: str = "gaussian"
    ) -> np.ndarray:
        """The share of draws under which each image is wrong, (n,); None is `middle`."""
        return self.frame[
            noise_column(noise, kind, order, self.middle if k is None else k)
        ].to_numpy()

    def occlusion(
        self, setting: int, colour: str, order: str = "importance", what: str = "error"
    ) -> np.ndarray:
        """The share of draws in which each image fell, or how many pixels were "covered" in the first, (n,).

        Args:
            setting: its number among `settings`.
        """
        made = next(
            each
            for each in self.examination.occlusions
            if (each.regions, each.radius) == self.settings[setting] and colour_of(each) == colour
        )
        return self.frame[f"{what} {occlusion_column(made, order)}"].to_numpy()


Found = dict[str, Measured]
"""By the size trained for, natural training first, or by the way of training."""


def measure(
    context: Context,
    models: dict[str, str],
    method: str = "integrated-gradients",
    n: int = published.IMAGES,
) -> Found:
    """Examine reference models on images that all of them have right.

    Work is kept by the images' place in the random order, so that items with other models share it, and more images continue it.
    """
    chosen = common(context, tuple(models.values()), n)
    found = {}
    for name, model in models.items():
        run = context.run(model)
        order = shuffled(len(run.claim.data.test), run.seed)
        last = int((order == chosen[-1]).nonzero())
        examination = Examination.of(run.claim.data, method)
        frames = []
        with context.progress.bar(f"  {model}, {method}", last + 1) as advance:
            for unit in order[: UNIT * (last // UNIT + 1)].split(UNIT):
                frames.append(
                    run.subset(unit.sort().values).map_images(
                        "duan2023 examination", describe(examination), examination
                    )
                )
                advance(len(unit))
        every = pl.concat([frame for frame in frames if len(frame)])
        wanted = pl.DataFrame({"index": chosen.numpy()}).join(
            every, on="index", maintain_order="left"
        )
        found[name] = Measured(model, run.subset(chosen), wanted, examination)
    return found


def robust(context: Context, model: str, threat: Threat, n: int = published.IMAGES) -> np.ndarray:
    """Which of the first n test images of the random order a model has right under attack, bool (n,)."""
    run = context.run(model)
    drawn = run.subset(
        shuffled(len(run.claim.data.test), run.seed)[: min(context.limit or n, n)].sort().values
    )
    records = drawn.attack(
        make(context.attack or ATTACK, threat), what=f"  attacking {model}"
    ).sort("index")
    right = (records["prediction"] == records["label"]).to_numpy()
    return right & ~fallen(records, threat.eps, threat.norm)
