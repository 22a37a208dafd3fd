"""All that is measured at an image: how unequal its attribution map is, and what noise and squares do where the map says."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scotoma.attribution import ATTRIBUTIONS
from scotoma.attribution.colour import COLOURS, Colour
from scotoma.attribution.deletion import deletion_and_insertion
from scotoma.attribution.method import Attribution
from scotoma.attribution.noise import InductiveNoise
from scotoma.attribution.occlusion import InductiveOcclusion, with_controls
from scotoma.data.dataset import Dataset
from scotoma.metrics.inequality import (
    CONVENTIONS,
    amounts,
    gini,
    hoover,
    lorenz,
    regional_gini,
)
from scotoma.papers.duan2023 import channels, published
from scotoma.utils.random import Randomness

NOISE_DRAWS = 5
"""Of the paper's noise; the authors' code draws once."""
CENTRE_DRAWS = 2
"""Of random places to cover."""
NOISED = {"gradient-shap": 0.01, "smoothgrad": 0.2}
"""Attribution methods that add noise, and its standard deviation on standardised images (the authors' code)."""


@dataclass(frozen=True)
class Examination:
    """A look (see `Run.map_images`) at images that the model has right.

    Args:
        method: of attribution.
        noises: each told by its `noise`.
        occlusions: a colour that is no word is called gray.
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
        """The paper's on images of this data: what it does to standardised images, done to images in [0, 1]."""
        mean, sd = channels(data)
        noise = {"noise": tuple(NOISED[method] * each for each in sd)} if method in NOISED else {}
        scale = {"counts": counts(data), "mean": mean, "sd": sd}
        return cls(
            ATTRIBUTIONS[method](baseline=mean, **noise),
            (
                InductiveNoise(draws=NOISE_DRAWS, **scale),
                InductiveNoise(noise="uniform", orders=("importance", "random"), **scale),
            ),
            tuple(
                InductiveOcclusion(regions, radius, mean if colour == "gray" else colour)
                for regions, radius in settings(*data.shape[1:])
                for colour in COLOURS
            ),
            CENTRE_DRAWS,
            mean,
        )

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> dict[str, Tensor]:
        maps = self.method(model, images, labels, random.fork(0))
        columns = unequal(maps)
        for number, noise in enumerate(self.noises, 1):
            found = noise(model, images, labels, maps, random.fork(number))
            for (order, kind), wrong in found.wrong.items():
                for k, share in zip(found.counts, wrong.float().mean(1).T, strict=True):
                    columns[noise_column(noise.noise, kind, order, k)] = share
        for number, occlusion in enumerate(self.occlusions, 1 + len(self.noises)):
            controls = with_controls(
                occlusion, model, images, labels, maps, random.fork(number), self.centres
            )
            for order, drawn in controls.items():
                name = occlusion_column(occlusion, order)
                columns[f"error {name}"] = torch.stack(
                    [each.fooled.float() for each in drawn]
                ).mean(0)
                columns[f"covered {name}"] = drawn[0].covered
        last = random.fork(1 + len(self.noises) + len(self.occlusions))
        for (order, kind), curve in deletion_and_insertion(
            model, images, labels, maps, baseline=self.fill, generator=last
        ).items():
            columns[f"{kind} {order}"] = curve.area
        return columns


def unequal(maps: Tensor) -> dict[str, Tensor]:
    """Measures of inequality of each map (n, c, h, w), float64 (n,), and its Lorenz curve."""
    values = amounts(maps)
    return {
        **{gini_column("global", each): gini(maps, each) for each in CONVENTIONS[:2]},
        **{gini_column("regional", each): regional_gini(maps, each) for each in CONVENTIONS},
        **{gini_column("pixels", each): gini(amounts(maps, each, 1)) for each in CONVENTIONS[::2]},
        "hoover": hoover(values),
        "lorenz": lorenz(values).float(),
    }


def gini_column(over: str, convention: str) -> str:
    return f"gini {over} {convention}"


def noise_column(noise: str, kind: str, order: str, k: int) -> str:
    return f"noise {noise} {kind} {order} {k}"


def occlusion_column(occlusion: InductiveOcclusion, order: str) -> str:
    return f"{occlusion.regions} {occlusion.radius} {colour_of(occlusion)} {order}"


def colour_of(occlusion: InductiveOcclusion) -> str:
    return occlusion.colour if isinstance(occlusion.colour, str) else "gray"


def counts(data: Dataset) -> tuple[int, ...]:
    """The paper's counts of sub-pixels as shares of an image, at least 1 and without repetition."""
    values = torch.Size(data.shape).numel()
    return tuple(
        sorted({max(1, round(count * values / published.VALUES)) for count in published.COUNTS})
    )


def middle(data: Dataset) -> int:
    """The one at which errors are compared."""
    return max(1, round(published.MIDDLE * torch.Size(data.shape).numel()))


def settings(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """The paper's (regions, radius) for smaller images: the radius to scale, at least 1, and no more regions than the paper has nor
    than cover, side by side, the same share of the image as in the paper (4% and 32%)."""
    made = []
    for regions, radius in published.SETTINGS:
        share = regions * (2 * radius) ** 2 / published.SIDE**2
        small = max(1, int(radius * min(height, width) / published.SIDE + 0.5))
        most = int(share * height * width / (2 * small) ** 2 + 0.5)
        made.append((max(1, min(regions, most)), small))
    return tuple(made)
