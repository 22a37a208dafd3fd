"""Figure 4: one image and its adversarial neighbours, before and after scale and shift."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from scotoma.execution import records as rec
from scotoma.execution.run import Attack, Run
from scotoma.papers.item import Context, row
from scotoma.papers.zhang2019 import how, images, published, settings
from scotoma.probes.blindspots.probe import move
from scotoma.results.finding import Finding, Gallery, Row
from scotoma.utils.stats import Median, median


@dataclass(frozen=True)
class Moved:
    """The smallest perturbations at one (alpha, beta)."""

    alpha: float
    beta: float
    published: float
    attack: Attack
    run: Run
    """on the images attacked here"""
    records: pl.DataFrame
    distance: Median

    @property
    def label(self) -> str:
        return f"alpha {self.alpha:g}, beta {self.beta:g}"


class Figure4:
    """Blind-spot images and the adversarial images near them."""

    title = "Figure 4: examples of the blind-spot attack"
    source = "Zhang et al. 2019, section 4.4, Figure 4"
    models = ("fashion-pgd", "mnist-pgd")

    def measure(self, context: Context, name: str) -> tuple[list[Row], Finding]:
        rows, shown, galleries, falls, parts = [], {}, [], [], []
        for model in self.models:
            cells = [
                self._attack(context, model, *cell)
                for cell in published.FIGURE4[context.data(model).name].items()
            ]
            data = context.data(model).name
            for cell in cells:
                keys = {"data": data, "alpha": cell.alpha, "beta": cell.beta}
                rows.append(row(keys, "median L-inf distance", cell.distance))
            index = self._example(cells)
            if index is not None:
                shown[data], captions = self._images(cells, index)
                rows += self._example_rows(cells, index, data)
                galleries.append(self._gallery(data, cells, captions))
            falls.append(
                all(
                    before.distance.value > after.distance.value
                    for before, after in pairwise(cells)
                )
            )
            medians = ", ".join(
                f"{cell.distance.value:.3f} at ({cell.alpha:g}, {cell.beta:g})" for cell in cells
            )
            parts.append(f"on {data} {medians}")
        return rows, Finding(
            probe=name,
            question=self.title,
            verdict="reproduced" if all(falls) else "differs",
            rule=(
                "reproduced if on both data sets the median distance falls from one (alpha, beta) to the next, as the distances of "
                "the paper's examples do; else differs"
            ),
            headline=f"The median L-inf distance of the nearest adversarial image found is {', '.join(parts)}.",
            figures=tuple(galleries),
            notes=(
                how(context),
                "The published distances are those of the one image that the paper shows at each place, so they cannot be compared "
                "with ours one to one. Ours is the image whose distance at (1, 0) is nearest to the median. The medians are over "
                "all images attacked, and count an image without an adversarial one as infinite.",
            ),
            images=shown,
        )

    @staticmethod
    def _attack(
        context: Context, model: str, place: tuple[float, float], published: float
    ) -> Moved:
        alpha, beta = place
        run, transform = context.run(model), move(alpha, beta)
        narrow = run.subset(run.correct_indices(images(context), transform))
        attack = settings(context).make_attack(run.claim.threat)
        records = rec.correct(
            narrow.attack(attack, transform, what=f"  {model}, alpha {alpha:g}, beta {beta:g}")
        )
        return Moved(
            alpha, beta, published, attack, narrow, records, median(records["linf"].to_numpy())
        )

    @staticmethod
    def _example(cells: list[Moved]) -> int | None:
        """The image that falls at every place and whose distance at the first is nearest to the median there."""
        first, *others = (cell.records.filter("success").select("index", "linf") for cell in cells)
        for other in others:
            first = first.join(other, on="index", how="semi")
        if first.is_empty():
            return None
        return first.sort((pl.col("linf") - cells[0].distance.value).abs(), "index")["index"][0]

    @staticmethod
    def _images(cells: list[Moved], index: int) -> tuple[np.ndarray, list[list[str]]]:
        """Two rows, inputs over adversarial images, a column a place; and what stands under them."""
        columns, captions = [], []
        for cell in cells:
            _, moved, adversarial = cell.run.examples(
                cell.attack, move(cell.alpha, cell.beta), [index]
            )
            columns.append([moved[0], adversarial[0]])
            found = cell.records.row(by_predicate=pl.col("index") == index, named=True)
            label, taken = (
                cell.run.claim.data.classes[found[name]]
                for name in ("label", "adversarial_prediction")
            )
            captions.append([label, f"taken for {taken}, L-inf {found['linf']:.3f}"])
        return np.stack([np.stack(column) for column in columns], axis=1), [
            list(line) for line in zip(*captions, strict=True)
        ]

    @staticmethod
    def _example_rows(cells: list[Moved], index: int, data: str) -> list[Row]:
        rows = []
        for cell in cells:
            value = float(cell.records.filter(index=index)["linf"][0])
            single = Median(value, np.nan, np.nan, 1)
            keys = {"data": data, "alpha": cell.alpha, "beta": cell.beta}
            rows.append(row(keys, "L-inf distance of the example", single, cell.published))
        return rows

    @staticmethod
    def _gallery(data: str, cells: list[Moved], captions: list[list[str]]) -> Gallery:
        printed = ", ".join(f"{cell.published:.3f}" for cell in cells)
        return Gallery(
            data,
            f"A test image of {data}, moved, over the adversarial image found near it. The paper's examples lie at {printed}.",
            images=data,
            columns=[cell.label for cell in cells],
            captions=captions,
        )
