"""What is measured at each image: how unequal its attribution is, and what noise and squares do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from scotoma.attacks import make
from scotoma.attribution import ATTRIBUTIONS
from scotoma.attribution.colour import COLOURS, Colour
from scotoma.attribution.deletion import deletion_and_insertion
from scotoma.attribution.method import Attribution
from scotoma.attribution.noise import InductiveNoise
from scotoma.attribution.occlusion import InductiveOcclusion, with_controls
from scotoma.claim import Threat
from scotoma.data.dataset import Dataset
from scotoma.execution.fingerprint import describe
from scotoma.execution.records import fallen
from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled
from scotoma.metrics.inequality import CONVENTIONS, amounts, gini, hoover, lorenz, regional_gini
from scotoma.papers.duan2023 import published
from scotoma.papers.item import Context, accuracy
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness
from scotoma.utils.stats import Rate

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


@dataclass(frozen=True)
class Examination:
    """Measurements for `Run.map_images`.

    Args:
        method: attribution method.
        noises: at most one for each value of `InductiveNoise.noise`.
        occlusions: a colour that is no word is named gray.
        centres: draws of random places to cover.
        fill: colour of deleted pixels.
    """

    method: Attribution
    noises: tuple[InductiveNoise, ...]
    occlusions: tuple[InductiveOcclusion, ...]
    centres: int
    fill: Colour

    @classmethod
    def of(cls, data: Dataset, method: str = "integrated-gradients") -> Examination:
        """Return the paper's, whose standardised images are images in [0, 1] here."""
        mean, sd = channels(data)
        noise = {"noise": tuple(NOISED[method] * each for each in sd)} if method in NOISED else {}
        scale = {"counts": counts(data), "mean": mean, "sd": sd}
        both = ("importance", "random")
        return cls(
            ATTRIBUTIONS[method](baseline=mean, **noise),
            (
                InductiveNoise(draws=NOISE_DRAWS, **scale),
                InductiveNoise(noise="uniform", orders=both, **scale),
            ),
            tuple(
                InductiveOcclusion(*setting, mean if colour == "gray" else colour)
                for setting in settings(*data.shape[1:])
                for colour in COLOURS
            ),
            CENTRE_DRAWS,
            mean,
        )

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> dict[str, Tensor]:
        """Return columns (n,) of images (n, c, h, w)."""
        maps = self.method(model, images, labels, random.fork(0))
        batch, columns = (model, images, labels, maps), unequal(maps)
        for number, noise in enumerate(self.noises, 1):
            errors = noise(*batch, random.fork(number))
            for (order, kind), wrong in errors.wrong.items():
                for k, share in zip(errors.counts, wrong.float().mean(1).T, strict=True):
                    columns[f"noise {noise.noise} {kind} {order} {k}"] = share
        for number, occlusion in enumerate(self.occlusions, 1 + len(self.noises)):
            orders = with_controls(occlusion, *batch, random.fork(number), self.centres)
            for order, draws in orders.items():
                name = f"{occlusion.regions} {occlusion.radius} {colour_of(occlusion)} {order}"
                fooled = torch.stack([each.fooled.float() for each in draws])
                columns[f"error {name}"] = fooled.mean(0)
                columns[f"covered {name}"] = draws[0].covered
        last = random.fork(1 + len(self.noises) + len(self.occlusions))
        areas = deletion_and_insertion(*batch, baseline=self.fill, generator=last)
        return columns | {f"{kind} {order}": c.area for (order, kind), c in areas.items()}


def unequal(maps: Tensor) -> dict[str, Tensor]:
    """Return measures of inequality of maps (n, c, h, w), float64 (n,), and Lorenz curves."""
    values = amounts(maps)
    return {
        **{f"gini global {each}": gini(maps, each) for each in CONVENTIONS[:2]},
        **{f"gini regional {each}": regional_gini(maps, each) for each in CONVENTIONS},
        **{f"gini pixels {each}": gini(amounts(maps, each, 1)) for each in CONVENTIONS[::2]},
        "hoover": hoover(values),
        "lorenz": lorenz(values).float(),
    }


def colour_of(occlusion: InductiveOcclusion) -> str:
    """Return one of `COLOURS`."""
    return occlusion.colour if isinstance(occlusion.colour, str) else "gray"


def channels(data: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel over the training images.

    They have six digits, which the order of summation cannot change: they are hashed with the work.
    """
    split, values = data.train or data.test, 0
    totals = torch.zeros(2, data.shape[0]).double()
    for rows in torch.arange(len(split)).split(1000):
        images = split.images(rows).double()
        totals += torch.stack([images.sum((0, 2, 3)), images.square().sum((0, 2, 3))])
        values += len(rows) * images.shape[2:].numel()
    mean, square = totals / values
    sd = (square - mean.square()).sqrt()
    means, sds = ([float(f"{v:.6g}") for v in part.tolist()] for part in (mean, sd))
    return tuple(means), tuple(sds)


def counts(data: Dataset) -> tuple[int, ...]:
    """Return the paper's counts of sub-pixels as shares of an image, at least 1, no repeats."""
    size = torch.Size(data.shape).numel()
    return tuple(sorted({max(1, round(k * size / published.VALUES)) for k in published.COUNTS}))


def middle(data: Dataset) -> int:
    """Return the count at which errors are compared."""
    return max(1, round(published.MIDDLE * torch.Size(data.shape).numel()))


def settings(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Return the paper's (regions, radius) for smaller images.

    The radius is to scale and at least 1. There are no more regions than in the paper, and no more
    than cover, side by side, the paper's share of the image (4% and 32%).
    """
    scaled = []
    for regions, radius in published.SETTINGS:
        share = regions * (2 * radius) ** 2 / published.SIDE**2
        small = max(1, int(radius * min(height, width) / published.SIDE + 0.5))
        most = int(share * height * width / (2 * small) ** 2 + 0.5)
        scaled.append((max(1, min(regions, most)), small))
    return tuple(scaled)


@dataclass(frozen=True)
class Measured:
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
    examination: Examination

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def accuracy(self) -> Rate:
        """Accuracy on all test images."""
        return accuracy(self.run.predictions())

    @property
    def middle(self) -> int:
        return middle(self.run.claim.data)

    @property
    def counts(self) -> tuple[int, ...]:
        return counts(self.run.claim.data)

    @property
    def settings(self) -> list[tuple[int, int]]:
        """(regions, radius) of occlusion, the smaller first."""
        return list(dict.fromkeys((o.regions, o.radius) for o in self.examination.occlusions))

    def column(self, name: str) -> np.ndarray:
        return self.frame[name].to_numpy()

    def gini(self, over: str = "global", convention: str = "absolute") -> np.ndarray:
        """Return Gini coefficients, (n,)."""
        return self.column(f"gini {over} {convention}")

    def noise(
        self, kind: str, order: str = "importance", k: int | None = None, noise: str = "gaussian"
    ) -> np.ndarray:
        """Return the share of draws with an error, (n,); k values are noised, None is `middle`."""
        return self.column(f"noise {noise} {kind} {order} {self.middle if k is None else k}")

    def occlusion(
        self, setting: int, colour: str, order: str = "importance", what: str = "error"
    ) -> np.ndarray:
        """Return the share of draws with an error, or pixels "covered" in the first draw, (n,).

        `setting` is an index into `settings`.
        """
        regions, radius = self.settings[setting]
        return self.column(f"{what} {regions} {radius} {colour} {order}")


Models = dict[str, Measured]
"""Models by the size trained for, natural training first, or by training."""


def common(context: Context, models: tuple[str, ...], n: int = published.IMAGES) -> Tensor:
    """Return at most n test images that all models classify correctly, int64, in random order.

    Raises `InputError` if there are none.
    """
    frames = [context.run(model).predictions() for model in models]
    correct = np.all([(each["prediction"] == each["label"]).to_numpy() for each in frames], axis=0)
    order = shuffled(len(correct), context.seed)
    chosen = order[torch.from_numpy(correct)[order]][: min(context.limit or n, n)]
    if not len(chosen):
        raise InputError(
            f"no test image is classified correctly by all of {', '.join(models)}: there is "
            "nothing to compare them on"
        )
    return chosen


def measure(
    context: Context,
    models: dict[str, str],
    method: str = "integrated-gradients",
    n: int = published.IMAGES,
) -> Models:
    """Examine reference models on images that all of them classify correctly.

    Work is stored by place in the random order, so items with other models share it and a higher
    limit reuses it.
    """
    chosen = common(context, tuple(models.values()), n)
    wanted, measured = pl.DataFrame({"index": chosen.numpy()}), {}
    for name, model in models.items():
        run = context.run(model)
        order = shuffled(len(run.claim.data.test), run.seed)
        last = int((order == chosen[-1]).nonzero())
        examination, frames = Examination.of(run.claim.data, method), []
        config = describe(examination)
        with context.progress.bar(f"  {model}, {method}", last + 1) as advance:
            for unit in order[: UNIT * (last // UNIT + 1)].split(UNIT):
                part = run.subset(unit.sort().values)
                frames.append(part.map_images("duan2023 examination", config, examination))
                advance(len(unit))
        every = pl.concat([frame for frame in frames if len(frame)])
        frame = wanted.join(every, on="index", maintain_order="left")
        measured[name] = Measured(model, run.subset(chosen), frame, examination)
    return measured


def withstood(
    context: Context, model: str, threat: Threat, n: int = published.IMAGES
) -> np.ndarray:
    """Return which random test images a model classifies correctly under attack, bool (n,)."""
    attack = make(context.attack or ATTACK, threat)
    drawn = context.drawn(model, min(context.limit or n, n))
    records = drawn.attack(attack, what=f"  attacking {model}").sort("index")
    correct = (records["prediction"] == records["label"]).to_numpy()
    return correct & ~fallen(records, threat.eps, threat.norm)
