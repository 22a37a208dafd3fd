"""How far attacks bring the six models in L2, beside how far analysis by synthesis should stand."""

from __future__ import annotations

import numpy as np
import torch

from scotoma.certificates.synthesis import lower_bounds
from scotoma.models.synthesis import TOGETHER
from scotoma.papers.item import Context, row
from scotoma.papers.schott2019.measured import Measured, measure
from scotoma.papers.schott2019.study import Study
from scotoma.results.finding import Boxes, Finding, Row
from scotoma.utils.stats import Rate, finite, mean, median, rate

BOUNDED = "ABS"
LINE = "ABS, estimated lower bound"


class Bounds(Study):
    """Distances that attacks found in L2, and the estimate of a lower bound that the generative model gives."""

    title = "L2 distances of the nearest adversarial images, and the lower bound estimated for ABS"
    source = "Schott et al. 2019, sections 4 and 6"

    def measure(self, context: Context, name: str) -> tuple[list[Row], Finding]:
        found = self.of_each(context, measure)
        distances = {paper: each.readings["l2"].nearest for paper, each in found.items()}
        bounded = found[BOUNDED]
        index = bounded.readings["l2"].tried[0].records["index"].to_numpy()
        lower = _lower(bounded, index)
        stands = distances[BOUNDED] >= lower
        right = bounded.right
        crossed = rate(~stands[right])
        table = [
            {"model": line, "index": int(at), "distance": finite(value)}
            for line, values in (*distances.items(), (LINE, np.where(right, lower, 0.0)))
            for at, value in zip(index, values, strict=True)
        ]
        keys = {"model": LINE}
        rows = [
            *(
                row({"model": paper}, "median L2 distance", median(values))
                for paper, values in distances.items()
            ),
            row(keys, "mean L2 size", mean(lower[right])),
            row(keys, "median L2 size", median(lower[right])),
            row(keys, "images with an adversarial one below it", crossed),
        ]
        return rows, Finding(
            probe=name,
            question=self.title,
            verdict="reproduced" if not (~stands[right]).any() else "differs",
            rule="reproduced if no adversarial image was found nearer than the estimate where ABS is right at first, else differs",
            headline=_headline(lower[right], distances[BOUNDED], crossed),
            numbers={
                "n": len(index),
                "mean_lower_bound": finite(mean(lower[right]).value),
                "crossed": finite(crossed.value),
            },
            tables={"distances": table},
            figures=(
                Boxes(
                    "boxes",
                    "Distance of the nearest adversarial image over all attacks, 0 where the model is wrong already; at the right "
                    "the estimate of how far ABS stands at the least. Whiskers reach from the 5th to the 95th percentile.",
                    table="distances",
                    label="model",
                    value="distance",
                    y_label="L2 distance",
                ),
            ),
            notes=(
                "The lower bound is an estimate and no certificate: it rests on the nearest image that each other class can make, "
                "which is a minimum of a function that is not convex, found by search. It is over the images that ABS has right.",
            ),
        )


def _lower(each: Measured, index: np.ndarray) -> np.ndarray:
    images = each.run.claim.data.test.images(torch.tensor(index)).to(each.run.device)
    module = each.run.claim.model.module
    with each.run.progress.bar("lower bounds", len(index)) as advance:
        found = []
        for part in images.split(TOGETHER):
            found.append(lower_bounds(module, part).cpu())
            advance(len(part))
    return torch.cat(found).numpy()


def _headline(lower: np.ndarray, distances: np.ndarray, crossed: Rate) -> str:
    said = (
        "none of its adversarial images lies nearer"
        if not crossed.value
        else f"{crossed.value:.1%} of its images fell nearer"
    )
    return (
        f"ABS should stand up to an L2 distance of {mean(lower).value:.2f} on average, by the estimate; attacks bring it to "
        f"{median(distances).value:.2f} in the median, and {said}."
    )
