"""Attribution maps and covered images of a few test images, as the paper's Figures 2 and 4 show them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from scotoma.attribution.colour import COLOURS
from scotoma.attribution.method import Attribution
from scotoma.attribution.occlusion import InductiveOcclusion
from scotoma.execution.fingerprint import describe
from scotoma.papers.duan2023.examination import colour_of
from scotoma.papers.duan2023.measured import Found, Measured
from scotoma.results.finding import Gallery
from scotoma.utils.random import Randomness

SHOWN = 4
FULL = 0.99
"""The quantile of a map's sizes that is drawn in full colour."""
FOR, AGAINST = np.array([0.78, 0.22, 0.0]), np.array([0.0, 0.38, 0.61])


@dataclass(frozen=True)
class Pictures:
    """A look at images: the `map` of each, and by setting and colour what it looks like `covered`, what the model then `says` and
    how many `squares` it took.

    Args:
        method: of attribution.
        occlusions: as in an `Examination`.
    """

    method: Attribution
    occlusions: tuple[InductiveOcclusion, ...]

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> dict[str, Tensor]:
        maps = self.method(model, images, labels, random.fork(0))
        columns = {"map": maps.flatten(1)}
        for number, occlusion in enumerate(self.occlusions, 1):
            found = occlusion(model, images, labels, maps, random.fork(number))
            with torch.no_grad():
                said = model(found.images).argmax(1)
            name = colour_of(occlusion)
            columns |= {
                f"covered {name}": found.images.flatten(1),
                f"says {name}": torch.where(found.fooled, said, -1),
                f"squares {name}": found.regions,
                f"radius {name}": found.radius,
            }
        return columns


def pictures(found: Found) -> tuple[dict[str, np.ndarray], tuple[Gallery, ...]]:
    """Arrays and galleries: the first images of the random order, whatever became of them."""
    names = list(found)
    first = found[names[0]]
    index = first.frame["index"].to_torch()[:SHOWN]
    split = first.run.claim.data.test
    originals = split.images(index).numpy()
    labels = [first.run.claim.data.classes[label] for label in split.labels[index].tolist()]
    looks = {name: _look(each, index) for name, each in found.items()}
    colour = (
        originals
        if originals.shape[1] == 3
        else np.repeat(originals.mean(1, keepdims=True), 3, axis=1)
    )
    maps = [_drawn(looks[name]["map"].reshape(originals.shape)) for name in names]
    titles = [f"test image {at}: {label}" for at, label in zip(index.tolist(), labels, strict=True)]
    ginis = [[f"Gini {found[name].gini()[row]:.2f}" for name in names] for row in range(len(index))]
    ends = dict.fromkeys((names[0], names[-1]))
    covered = [
        looks[name][f"covered {each}"].reshape(originals.shape) for name in ends for each in COLOURS
    ]
    became = [
        [
            _became(looks[name], each, row, first.run.claim.data.classes)
            for name in ends
            for each in COLOURS
        ]
        for row in range(len(index))
    ]
    regions, radius = first.settings[-1]
    arrays = {
        "maps": np.stack([colour, *maps], axis=1),
        "covered": np.stack([originals, *covered], axis=1),
    }
    return arrays, (
        Gallery(
            "maps",
            "Attribution maps for the true class, summed over channels: evidence for it in red, against it in blue, each map to "
            f"its own scale (full colour at the {FULL:.0%} quantile). With the global Gini coefficient of absolute values. The "
            "images are the first of the random order.",
            images="maps",
            columns=["original", *names],
            captions=[[title, *row] for title, row in zip(titles, ginis, strict=True)],
        ),
        Gallery(
            "covered",
            f"The same images under up to {regions} squares of up to {2 * radius}x{2 * radius} pixels over their most important "
            "places, as found first; unchanged where the model stands.",
            images="covered",
            columns=["original", *(f"{name}, {each}" for name in ends for each in COLOURS)],
            captions=[[title, *row] for title, row in zip(titles, became, strict=True)],
        ),
    )


def _look(each: Measured, index: Tensor) -> dict[str, np.ndarray]:
    largest = each.settings[-1]
    occlusions = tuple(
        made for made in each.examination.occlusions if (made.regions, made.radius) == largest
    )
    look = Pictures(each.examination.method, tuple(map(replace, occlusions)))
    frame = each.run.subset(index).map_images("duan2023 pictures", describe(look), look)
    return {name: frame[name].to_numpy() for name in frame.columns}


def _became(look: dict[str, np.ndarray], colour: str, row: int, classes: tuple[str, ...]) -> str:
    said = int(look[f"says {colour}"][row])
    if said < 0:
        return "stands"
    squares, side = int(look[f"squares {colour}"][row]), 2 * int(look[f"radius {colour}"][row])
    return f"{classes[said]}, {squares} of {side}x{side}"


def _drawn(maps: np.ndarray) -> np.ndarray:
    """Colours (n, 3, h, w) of signed maps (n, c, h, w): white at 0."""
    net = maps.sum(1)
    size = np.quantile(np.abs(net), FULL, axis=(1, 2), keepdims=True)
    strength = np.clip(np.divide(net, size, out=np.zeros_like(net), where=size > 0), -1, 1)[:, None]
    ink = np.where(strength > 0, FOR[:, None, None], AGAINST[:, None, None])
    return (1 - np.abs(strength) * (1 - ink)).astype(np.float32)
