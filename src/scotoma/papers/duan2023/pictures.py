"""Attribution maps and covered images of a few test images, as in the paper's Figures 2 and 4."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from scotoma.attribution.colour import COLOURS
from scotoma.attribution.method import Attribution
from scotoma.attribution.occlusion import InductiveOcclusion
from scotoma.execution.fingerprint import describe
from scotoma.papers.duan2023.claims import squares
from scotoma.papers.duan2023.examination import Measured, Models
from scotoma.papers.figures import FULL, map_colours
from scotoma.probes.inequality.figures import coloured
from scotoma.probes.inequality.measurements import colour_of
from scotoma.results.finding import Gallery
from scotoma.utils.random import Randomness

SHOWN = 4


@dataclass(frozen=True)
class Pictures:
    """Maps and covered images for `Run.map_images`.

    Columns are the `map`, and by colour the `covered` image, the class that the model `says` (-1 if
    it is not fooled), and the number and radius of the squares.

    Args:
        method: attribution method.
        occlusions: one for each colour.
    """

    method: Attribution
    occlusions: tuple[InductiveOcclusion, ...]

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> dict[str, Tensor]:
        maps = self.method(model, images, labels, random.fork(0))
        columns = {"map": maps.flatten(1)}
        for number, occlusion in enumerate(self.occlusions, 1):
            result = occlusion(model, images, labels, maps, random.fork(number))
            name = colour_of(occlusion)
            with torch.no_grad():
                said = model(result.images).argmax(1)
            columns |= {
                f"covered {name}": result.images.flatten(1),
                f"says {name}": torch.where(result.fooled, said, -1),
                f"squares {name}": result.regions,
                f"radius {name}": result.radius,
            }
        return columns


def pictures(models: Models) -> tuple[dict[str, np.ndarray], tuple[Gallery, ...]]:
    """Return arrays and galleries of the first images of the random order."""
    names, first = list(models), next(iter(models.values()))
    index, data = first.frame["index"].to_torch()[:SHOWN], first.run.claim.data
    originals = data.test.images(index).numpy()
    views = {name: _view(each, index) for name, each in models.items()}
    maps = [map_colours(views[name]["map"].reshape(originals.shape)) for name in names]
    places = list(product(dict.fromkeys((names[0], names[-1])), COLOURS))
    covered = [views[name][f"covered {c}"].reshape(originals.shape) for name, c in places]
    ginis, became = [], []
    for line, (at, label) in enumerate(zip(index.tolist(), data.test.labels[index], strict=True)):
        title = f"test image {at}: {data.classes[int(label)]}"
        ginis.append([title] + [f"Gini {models[name].gini()[line]:.2f}" for name in names])
        cells = [_became(views[name], colour, line, data.classes) for name, colour in places]
        became.append([title, *cells])
    arrays = {
        "maps": np.stack([coloured(originals), *maps], axis=1),
        "covered": np.stack([originals, *covered], axis=1),
    }
    of_maps = (
        "Attribution maps for the true class, summed over channels: evidence for it in red, "
        f"against it in blue. Each map has its own scale (full colour at the {FULL:.0%} quantile). "
        "With the global Gini coefficient of absolute values. The images are the first of the "
        "random order."
    )
    of_covered = (
        f"The same images under {squares(*first.settings[-1])} pixels or smaller over their most "
        "important places: the first cover that fools the model, or the image itself if none does."
    )
    columns = ["original", *(", ".join(place) for place in places)]
    return arrays, (
        Gallery("maps", of_maps, "maps", ["original", *names], ginis),
        Gallery("covered", of_covered, "covered", columns, became),
    )


def _view(each: Measured, index: Tensor) -> dict[str, np.ndarray]:
    made, largest = each.examination, each.settings[-1]
    chosen = tuple(o for o in made.occlusions if (o.regions, o.radius) == largest)
    pictures = Pictures(made.method, chosen)
    frame = each.run.subset(index).map_images("duan2023 pictures", describe(pictures), pictures)
    return {name: frame[name].to_numpy() for name in frame.columns}


def _became(view: dict[str, np.ndarray], colour: str, line: int, classes: tuple[str, ...]) -> str:
    said, number, radius = (int(view[f"{c} {colour}"][line]) for c in ("says", "squares", "radius"))
    side = 2 * radius
    return "not fooled" if said < 0 else f"{classes[said]}, {number} of {side}x{side}"
