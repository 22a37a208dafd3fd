"""Measurements of the inequality probe, image by image: maps, inequality, noise and occlusion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn

from scotoma.attribution.colour import Colour, fill
from scotoma.attribution.deletion import deletion_and_insertion
from scotoma.attribution.integrated_gradients import IntegratedGradients
from scotoma.attribution.noise import InductiveNoise, default_counts
from scotoma.attribution.occlusion import InductiveOcclusion, with_controls
from scotoma.attribution.ranking import ORDERS
from scotoma.claim import Claim
from scotoma.execution.run import Measurement, Run
from scotoma.metrics.inequality import (
    amounts,
    default_block,
    gini,
    herfindahl,
    hoover,
    lorenz,
    top_share,
)
from scotoma.utils.random import Randomness

WHAT = "inequality"
"""Purpose of the random numbers, the same in all measurements of an image."""
PAPER_SIDE = 224
IMAGES_OF_A_MEAN = 10_000
LEAST_SD = 1 / 255
POINTS = 51
"""Points of a Lorenz curve."""
GINIS = {
    "gini": (False, "absolute"),
    "gini_positive": (False, "positive"),
    "gini_regional": (True, "net"),
    "gini_regional_absolute": (True, "absolute"),
    "gini_regional_positive": (True, "positive"),
}
"""Whether over regions, and the convention, by column."""


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
        settings = asdict(self) | {"counts": self.counts, "block": self.block}
        if self.stride == 1:  # as before there was a stride
            del settings["stride"]
        return settings

    def reach(self, number: int) -> int:
        """Return the most pixels that an occlusion may cover."""
        regions, radius = self.occlusions[number]
        return min(self.pixels, regions * (2 * radius) ** 2)

    def maps(
        self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> tuple[Tensor, Tensor]:
        """Return maps (n, c, h, w), zero if not finite, and whether a map is all zero, (n,)."""
        maps = IntegratedGradients(self.mean, self.steps)(model, images, labels, random.fork(0))
        maps = torch.where(maps.isfinite().flatten(1).all(1).view(-1, 1, 1, 1), maps, 0)
        return maps, ~(maps != 0).flatten(1).any(1)

    def occluded(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        maps: Tensor,
        random: Randomness,
        number: int,
        name: str,
    ):
        """Return the result of an occlusion, by order."""
        regions, radius = self.occlusions[number]
        attack = InductiveOcclusion(regions, radius, self.colours[name], stride=self.stride)
        found = with_controls(attack, model, images, labels, maps, random.fork(2))
        return {order: each[0] for order, each in found.items()}


def plan(
    claim: Claim,
    run: Run,
    steps: int,
    draws: int,
    occlusions: Sequence[tuple[int, int]],
    stride: int = 1,
) -> Plan:
    """Make the plan for a claim; `occlusions` are for images of 224 pixels a side."""
    shape = claim.data.shape
    height, width = shape[1:]
    side, block = min(height, width), default_block(height, width)
    blocks = math.ceil(height / block) * math.ceil(width / block)
    scaled = dict.fromkeys(
        (min(n, blocks), max(1, round(r * side / PAPER_SIDE))) for n, r in occlusions
    )
    told = run.table(
        "level", {"images": IMAGES_OF_A_MEAN, "seed": run.seed}, lambda: _level(claim, run)
    )
    mean, sd = (tuple(round(float(value), 6) for value in told[name]) for name in ("mean", "sd"))
    return Plan(shape, mean, sd, steps, draws, tuple(scaled), stride)


def look(plan: Plan, other: Callable[[torch.device], nn.Module] | None = None) -> Measurement:
    """Return all measurements on the audited model, or on another one, for `Run.map_images`.

    Columns: mute (the map is zero); incomplete (error of the sum of a map, as a share); those of
    `GINIS`; hoover, effective (number of equal values that are as concentrated), lorenz, top;
    "noise ORDER TYPE" (n, counts), share of draws that make the model wrong; "cover ORDER COLOUR
    NUMBER", covered pixels, infinite if not fooled; "deletion ORDER" and "insertion ORDER", areas.
    """

    def see(
        model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> dict[str, Tensor]:
        model = other(images.device) if other else model
        maps, mute = plan.maps(model, images, labels, random)
        seen = {"mute": mute, "incomplete": _incomplete(model, images, labels, maps, plan.mean)}
        for name, (regional, convention) in GINIS.items():
            seen[name] = gini(amounts(maps, convention, plan.block if regional else None))
        held = amounts(maps)
        seen |= {
            "hoover": hoover(held),
            "effective": 1 / herfindahl(held),
            "lorenz": lorenz(held, POINTS),
        }
        seen["top"] = top_share(held, plan.counts)
        noise = InductiveNoise(plan.counts, plan.draws, mean=plan.mean, sd=plan.sd)
        wrong = noise(model, images, labels, maps, random.fork(1)).wrong
        seen |= {
            f"noise {order} {kind}": each.float().mean(1) for (order, kind), each in wrong.items()
        }
        for colour in plan.colours:
            for number in range(len(plan.occlusions)):
                found = plan.occluded(model, images, labels, maps, random, number, colour)
                seen |= {
                    f"cover {order} {colour} {number}": found[order].covered for order in ORDERS
                }
        curves = deletion_and_insertion(
            model, images, labels, maps, baseline=plan.mean, generator=random.fork(3)
        )
        return seen | {f"{kind} {order}": curve.area for (order, kind), curve in curves.items()}

    return see


def look_at_maps(
    plan: Plan, other: Callable[[torch.device], nn.Module] | None = None
) -> Measurement:
    """Return the map of each image, summed over channels: "map" (n, h w)."""

    def see(
        model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> dict[str, Tensor]:
        maps, _ = plan.maps(other(images.device) if other else model, images, labels, random)
        return {"map": maps.sum(1).flatten(1)}

    return see


def look_at_covers(plan: Plan, number: int, colour: str) -> Measurement:
    """Return the occluded images, "image ORDER" (n, c h w), with regions, radius, covered pixels
    and prediction, each by order."""

    def see(
        model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> dict[str, Tensor]:
        maps, _ = plan.maps(model, images, labels, random)
        seen: dict[str, Tensor] = {}
        for order, found in plan.occluded(
            model, images, labels, maps, random, number, colour
        ).items():
            with torch.no_grad():
                prediction = model(found.images).argmax(1)
            seen |= {
                f"image {order}": found.images.flatten(1),
                f"regions {order}": found.regions,
                f"radius {order}": found.radius,
                f"covered {order}": found.covered,
                f"prediction {order}": prediction,
            }
        return seen

    return see


def _incomplete(
    model: nn.Module, images: Tensor, labels: Tensor, maps: Tensor, mean: tuple[float, ...]
) -> Tensor:
    """Return the difference between the sum of a map and the gain of the logit, as its share."""
    origin = fill(images, mean).expand_as(images)
    with torch.no_grad():
        ends = [
            model(each).gather(1, labels[:, None]).squeeze(1).double() for each in (images, origin)
        ]
    gain = ends[0] - ends[1]
    return (maps.double().flatten(1).sum(1) - gain).abs() / gain.abs().clamp_min(1e-12)


def _level(claim: Claim, run: Run) -> pl.DataFrame:
    """Return mean and standard deviation by channel, float64, of training or audited images."""
    split = claim.data.train or claim.data.test
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(run.seed))
    chosen = (order[:IMAGES_OF_A_MEAN] if claim.data.train else run.indices).sort().values
    total = torch.zeros(2, claim.data.shape[0], dtype=torch.float64)
    for part in chosen.split(run.batch_size):
        images = split.images(part).double()
        total += torch.stack([images.sum((0, 2, 3)), images.square().sum((0, 2, 3))])
    mean, square = total / (len(chosen) * math.prod(claim.data.shape[1:]))
    sd = (square - mean.square()).clamp_min(0).sqrt().clamp_min(LEAST_SD)
    return pl.DataFrame({"mean": mean.numpy(), "sd": sd.numpy()})
