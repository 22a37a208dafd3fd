"""Measurements of the inequality probe, image by image: maps, inequality, noise and occlusion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn

from scotoma.attribution.colour import Colour, fill
from scotoma.attribution.deletion import deletion_and_insertion
from scotoma.attribution.integrated_gradients import IntegratedGradients
from scotoma.attribution.method import Attribution
from scotoma.attribution.noise import InductiveNoise, default_counts
from scotoma.attribution.occlusion import InductiveOcclusion, Occluded, with_controls
from scotoma.data.dataset import Split
from scotoma.execution.fingerprint import describe
from scotoma.execution.run import Measurement, Run
from scotoma.execution.sampling import shuffled
from scotoma.metrics.inequality import (
    CONVENTIONS,
    amounts,
    default_block,
    gini,
    herfindahl,
    hoover,
    lorenz,
    regional_gini,
    top_share,
)
from scotoma.models.classifier import Classifier
from scotoma.utils.random import Randomness

WHAT = "inequality"
"""Purpose of the random numbers, the same in all measurements of an image."""
PAPER_SIDE = 224
COLOURS = 3
"""Colours of the covers."""
IMAGES_OF_A_MEAN = 10_000
LEAST_SD = 1 / 255
POINTS = 51
"""Points of a Lorenz curve."""


@dataclass(frozen=True)
class Measures:
    """All measurements of an image, for `Run.map_images`.

    Columns, each (n,) unless said otherwise: "mute" (the map is zero or not finite); "incomplete"
    (error of the sum of a map, as a share of the gain of the logit); "gini OVER CONVENTION";
    "hoover"; "effective" (number of equal values that are as concentrated); "lorenz" (n, points);
    "top" (n, counts), the share of the largest values; "noise NOISE TYPE ORDER" (n, counts), the
    share of draws that make the model wrong; "error REGIONS RADIUS COLOUR ORDER", the share of
    draws whose cover fools, and "covered ...", the pixels of the first cover, infinite if it does
    not fool;
    "deletion ORDER" and "insertion ORDER", areas.

    Args:
        method: attribution method.
        noises: at most one for each value of `InductiveNoise.noise`, with equal counts.
        occlusions: a colour that is no word is named gray.
        fill: colour of deleted pixels, and the baseline of the maps.
        centres: draws of random places to cover.
        points: points of a Lorenz curve.
        same_centres: whether all occlusions cover the same random places.
    """

    method: Attribution
    noises: tuple[InductiveNoise, ...]
    occlusions: tuple[InductiveOcclusion, ...]
    fill: tuple[float, ...]
    centres: int = 1
    points: int = POINTS
    same_centres: bool = True

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> dict[str, Tensor]:
        maps, mute = self.maps(model, images, labels, random)
        batch = model, images, labels, maps
        columns = {"mute": mute, "incomplete": _incomplete(*batch, self.fill), **unequal(maps)}
        evidence, counts = amounts(maps), self.noises[0].counts
        assert counts is not None
        columns |= {"lorenz": lorenz(evidence, self.points), "top": top_share(evidence, counts)}
        for number, noise in enumerate(self.noises, 1):
            errors = noise(*batch, random.fork(number)).wrong
            columns |= {
                f"noise {noise.noise} {kind} {order}": each.float().mean(1)
                for (order, kind), each in errors.items()
            }
        for number, occlusion in enumerate(self.occlusions):
            for order, draws in self.occluded(number, *batch, random).items():
                name = f"{column_name(occlusion)} {order}"
                columns[f"error {name}"] = torch.stack([d.fooled.float() for d in draws]).mean(0)
                columns[f"covered {name}"] = draws[0].covered
        stream = self._stream(len(self.occlusions) - 1) + 1
        areas = deletion_and_insertion(*batch, baseline=self.fill, generator=random.fork(stream))
        return columns | {f"{kind} {order}": c.area for (order, kind), c in areas.items()}

    def maps(
        self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> tuple[Tensor, Tensor]:
        """Return maps (n, c, h, w), zero if not finite, and whether a map is all zero, (n,)."""
        maps = self.method(model, images, labels, random.fork(0))
        maps = torch.where(maps.isfinite().flatten(1).all(1).view(-1, 1, 1, 1), maps, 0)
        return maps, ~(maps != 0).flatten(1).any(1)

    def shown(
        self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> dict[str, Tensor]:
        """Return the map of each image, summed over channels: "map" (n, h w)."""
        maps, _ = self.maps(model, images, labels, random)
        return {"map": maps.sum(1).flatten(1)}

    def covers(
        self, number: int, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> dict[str, Tensor]:
        """Return the images of an occlusion, "image ORDER" (n, c h w), with regions, radius,
        covered pixels and prediction, each by order."""
        maps, _ = self.maps(model, images, labels, random)
        columns: dict[str, Tensor] = {}
        draws = self.occluded(number, model, images, labels, maps, random)
        for order, (occluded, *_) in draws.items():
            with torch.no_grad():
                prediction = model(occluded.images).argmax(1)
            columns |= {
                f"image {order}": occluded.images.flatten(1),
                f"regions {order}": occluded.regions,
                f"radius {order}": occluded.radius,
                f"covered {order}": occluded.covered,
                f"prediction {order}": prediction,
            }
        return columns

    def occluded(
        self,
        number: int,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        maps: Tensor,
        random: Randomness,
    ) -> dict[str, list[Occluded]]:
        """Return the results of an occlusion by order, several of random places."""
        stream, centres = random.fork(self._stream(number)), self.centres
        return with_controls(self.occlusions[number], model, images, labels, maps, stream, centres)

    def _stream(self, number: int) -> int:
        """Return the stream of random numbers of an occlusion; noises are numbered before."""
        return 1 + len(self.noises) + (0 if self.same_centres else number)


def unequal(maps: Tensor) -> dict[str, Tensor]:
    """Return measures of inequality of maps (n, c, h, w), float64 (n,)."""
    values = amounts(maps)
    return {
        **{f"gini global {each}": gini(maps, each) for each in CONVENTIONS[:2]},
        **{f"gini regional {each}": regional_gini(maps, each) for each in CONVENTIONS},
        **{f"gini pixels {each}": gini(amounts(maps, each, 1)) for each in CONVENTIONS[::2]},
        "hoover": hoover(values),
        "effective": 1 / herfindahl(values),
    }


def colour_of(occlusion: InductiveOcclusion) -> str:
    """Return one of `attribution.colour.COLOURS`."""
    return occlusion.colour if isinstance(occlusion.colour, str) else "gray"


def column_name(occlusion: InductiveOcclusion) -> str:
    """Return an occlusion as columns name it."""
    return f"{occlusion.regions} {occlusion.radius} {colour_of(occlusion)}"


def moments(split: Split, rows: Tensor, batch: int = 1000) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel over images of a split, float64 (c,)."""
    totals, values = torch.zeros(2, split.shape[0], dtype=torch.float64), 0
    for indices in rows.split(batch):
        images = split.images(indices).double()
        totals += torch.stack([images.sum((0, 2, 3)), images.square().sum((0, 2, 3))])
        values += len(indices) * images.shape[2:].numel()
    mean, square = totals / values
    return mean, (square - mean.square()).clamp_min(0).sqrt()


@dataclass(frozen=True)
class Plan:
    """Settings of the measurements.

    Args:
        shape: shape of the images, (c, h, w).
        mean, sd: mean and standard deviation of the data by channel, in [0, 1]: the baseline of the
            maps, and the scale of the noise.
        steps: steps of the integrated gradients.
        draws: draws of the noise.
        occlusions: (regions, radius) in pixels of these images.
        stride: radii of an occlusion are tried in steps of so many pixels.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    steps: int
    draws: int
    occlusions: tuple[tuple[int, int], ...]
    stride: int = 1

    @property
    def values(self) -> int:
        """Number of values of an image."""
        return math.prod(self.shape)

    @property
    def pixels(self) -> int:
        return math.prod(self.shape[1:])

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of values with noise."""
        return default_counts(self.values)

    @property
    def block(self) -> int:
        """Side of a region."""
        return default_block(*self.shape[1:])

    @property
    def colours(self) -> dict[str, Colour]:
        """Colours of the covers; the paper's gray is the mean of the data."""
        return {"black": "black", "mean": self.mean, "white": "white"}

    @property
    def config(self) -> dict[str, Any]:
        return asdict(self) | {"measures": describe(self.measures)}

    def reach(self, number: int) -> int:
        """Return the most pixels that an occlusion may cover."""
        regions, radius = self.occlusions[number]
        return min(self.pixels, regions * (2 * radius) ** 2)

    @property
    def measures(self) -> Measures:
        """What is measured; occlusions are by colour, the smaller ones first."""
        covers = product(self.colours.values(), self.occlusions)
        return Measures(
            IntegratedGradients(self.mean, self.steps),
            (InductiveNoise(self.counts, self.draws, mean=self.mean, sd=self.sd),),
            tuple(
                InductiveOcclusion(*setting, colour, stride=self.stride)
                for colour, setting in covers
            ),
            self.mean,
        )

    def cover(self, colour: str, number: int) -> int:
        """Return the index of an occlusion among those of `measures`."""
        return list(self.colours).index(colour) * len(self.occlusions) + number


def plan(
    run: Run, steps: int, draws: int, occlusions: Sequence[tuple[int, int]], stride: int
) -> Plan:
    """Make the plan for a claim; `occlusions` are for images of 224 pixels a side."""
    shape = run.claim.data.shape
    height, width = shape[1:]
    side, block = min(height, width), default_block(height, width)
    blocks = math.ceil(height / block) * math.ceil(width / block)
    scaled = dict.fromkeys(
        (min(n, blocks), max(1, round(r * side / PAPER_SIDE))) for n, r in occlusions
    )
    config = {"images": IMAGES_OF_A_MEAN, "seed": run.seed}
    level = run.table("level", config, lambda: _level(run))
    mean, sd = (tuple(round(float(value), 6) for value in level[name]) for name in ("mean", "sd"))
    return Plan(shape, mean, sd, steps, draws, tuple(scaled), stride)


def on_model(other: Classifier | None, measure: Measurement) -> Measurement:
    """Return the measurement on model `other`; None is the audited model."""
    if other is None:
        return measure

    def measure_other(
        model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> dict[str, Tensor]:
        return measure(other.module.to(images.device), images, labels, random)

    return measure_other


def _incomplete(
    model: nn.Module, images: Tensor, labels: Tensor, maps: Tensor, mean: tuple[float, ...]
) -> Tensor:
    """Return the difference of the sum of a map and the gain of the logit, over that gain."""
    origin = fill(images, mean).expand_as(images)
    with torch.no_grad():
        logits = (model(each).gather(1, labels[:, None]) for each in (images, origin))
        end, start = (each.squeeze(1).double() for each in logits)
    gain = end - start
    return (maps.double().flatten(1).sum(1) - gain).abs() / gain.abs().clamp_min(1e-12)


def _level(run: Run) -> pl.DataFrame:
    """Return mean and standard deviation by channel, float64, of training or audited images."""
    data = run.claim.data
    split = data.train or data.test
    sample = shuffled(len(split), run.seed)[:IMAGES_OF_A_MEAN] if data.train else run.indices
    indices = sample.sort().values
    mean, sd = moments(split, indices, run.batch_size)
    return pl.DataFrame({"mean": mean.numpy(), "sd": sd.clamp_min(LEAST_SD).numpy()})
