"""Figures 1 to 3: success against distance. Figure 4: blind-spot images. Figure 5: detection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import polars as pl

from scotoma.execution import records as rec
from scotoma.execution.run import Run, describe
from scotoma.metrics.neighbours import nearest_distance
from scotoma.metrics.risk import auroc
from scotoma.papers.checks import APART, Measured, apart, within
from scotoma.papers.figures import Drawn, curve, gallery
from scotoma.papers.item import Context, Item, listed, number, ours, row
from scotoma.papers.zhang2019 import attacked, how, images, published, settings
from scotoma.probes.blindspots.transformed import contrast_shift
from scotoma.probes.distance.analysis import RAW, UNIT, histograms
from scotoma.probes.distance.probe import NEIGHBOURS, Distance
from scotoma.results.finding import Finding, Row
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.stats import Estimate, median

SPACES = {
    (model, length): prefix + of
    for model, prefix in {"robust": "", "natural": "extractor_"}.items()
    for length, of in {"as they are": RAW, "unit length": UNIT}.items()
}
"""Model and length of the features, with the prefix of their numbers and tables in the finding of
the distance probe."""
MEASURES = {
    "rank correlation": "spearman",
    "rank correlation at equal margin": "spearman_given_margin",
    "slope of distance": "slope_distance",
    "slope of margin": "slope_margin",
}
LENGTH = {
    "rank correlation of feature length and distance": "length_spearman_distance",
    "rank correlation of feature length and margin": "length_spearman_margin",
    "rank correlation at equal feature length": "spearman_given_length",
}
FIFTHS = {"success, nearest fifth": 0, "success, farthest fifth": -1}


class SuccessOverDistance(Item):
    """Attack success on a robust model against distance in its features or a natural model's."""

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        run, extractor = context.run(self.models[0]), context.model(self.models[1])
        few = run.subset(run.correct_indices(images(context)))
        distance = Distance(extractor=extractor).finding(run.claim, few, settings(context))
        if distance.verdict == "not applicable":
            return [], replace(distance, question=self.title)
        numbers, data = distance.numbers, run.claim.data.name
        return self.finding(
            [line for space in SPACES for line in self._rows(distance, space, data)],
            [
                within(
                    "distance and smallest perturbation have a negative rank correlation",
                    f"features of the {model} model, {length}",
                    number(numbers, f"{key}spearman", numbers["n"]),
                    high=0,
                )
                for (model, length), key in SPACES.items()
            ],
            "Attack success rate in the nearest and the farthest fifth, and rank correlation of "
            "distance and smallest perturbation: "
            f"{'; '.join(self._said(numbers, space) for space in SPACES)}.",
            how(context),
            "The paper prints curves and no numbers. Its equation 2 takes features as they are.",
            *distance.notes,
            rule="the interval of the rank correlation lies below 0",
            numbers=numbers,
            tables=distance.tables,
            figures=[(figure, None) for figure in distance.figures],
            images=distance.images,
        )

    @staticmethod
    def _rows(distance: Finding, space: tuple[str, str], data: str) -> list[Row]:
        key, numbers, tables = SPACES[space], distance.numbers, distance.tables
        keys = {"data": data, "extractor": space[0], "features": space[1]}
        keys |= {"left": None, "right": None}
        measures = MEASURES | ({} if key.endswith(UNIT) else LENGTH)
        values = {name: number(numbers, key + at, numbers["n"]) for name, at in measures.items()}
        values |= {name: success(tables[f"{key}fifths"][at]) for name, at in FIFTHS.items()}
        return ours(keys, values) + [
            row(keys | {end: each[end] for end in ("left", "right")}, "success", success(each))
            for each in tables[f"{key}bins"]
        ]

    @staticmethod
    def _said(numbers: Row, space: tuple[str, str]) -> str:
        key, (model, length) = SPACES[space], space
        near, far = (numbers[f"{key}{end}_fifth_success"] for end in ("nearest", "farthest"))
        ends = [numbers[f"{key}spearman{end}"] for end in ("", "_low", "_high")]
        given = numbers[f"{key}spearman_given_margin"]
        known = "undefined" if ends[0] is None else "{:.2f} ({:.2f} to {:.2f})".format(*ends)
        beyond = "" if given is None else f", {given:.2f} at equal margin"
        return f"{model} model's features, {length}, {near:.1%}, {far:.1%}, {known}{beyond}"


def success(part: Row) -> Measured:
    """Return the rate in a line of the distance probe's bins or fifths."""
    return number(part, "rate", part["n"])


class Figure1(SuccessOverDistance):
    """Attack success against distance to the training data on MNIST."""

    title = "Figure 1: success against distance on MNIST"
    source = "Zhang et al. 2019, section 4.2, Figure 1"
    models = ("mnist-pgd", "mnist-natural")


class Figure2(SuccessOverDistance):
    """Attack success against distance to the training data on Fashion-MNIST."""

    title = "Figure 2: success against distance on Fashion-MNIST"
    source = "Zhang et al. 2019, section 4.2, Figure 2"
    models = ("fashion-pgd", "fashion-natural")


class Figure3(SuccessOverDistance):
    """Attack success against distance to the training data on CIFAR-10."""

    title = "Figure 3: success against distance on CIFAR-10"
    source = "Zhang et al. 2019, section 4.2, Figure 3"
    models = ("cifar-robust", "cifar-natural")


@dataclass(frozen=True)
class Transformed:
    """The smallest perturbations after one (alpha, beta); `run` has the attacked images."""

    alpha: float
    beta: float
    published: float
    run: Run
    records: pl.DataFrame
    distance: Estimate

    @property
    def label(self) -> str:
        return f"alpha {self.alpha:g}, beta {self.beta:g}"

    @property
    def keys(self) -> Row:
        return {"data": self.run.claim.data.name, "alpha": self.alpha, "beta": self.beta}


class Figure4(Item):
    """Blind-spot images and the adversarial images near them."""

    title = "Figure 4: examples of the blind-spot attack"
    source = "Zhang et al. 2019, section 4.4, Figure 4"
    models = ("fashion-pgd", "mnist-pgd")

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        rows, checks, shown, said = [], [], [], []
        for model in self.models:
            data = context.data(model).name
            places = published.FIGURE4[data].items()
            cells = [self._attack(context, model, *place) for place in places]
            rows += [row(c.keys, "median L-inf distance", c.distance) for c in cells]
            if (index := self._example(cells)) is not None:
                shown.append(self._images(data, cells, index))
                rows += [self._example_row(cell, index) for cell in cells]
            for a, b in pairwise(cells):
                where = f"{data}, {b.label} below {a.label}"
                checks.append(apart("the median distance falls", b.distance, a.distance, where))
            said += [f"{c.distance.value:.3f} on {data} at {c.label}" for c in cells]
        return self.finding(
            rows,
            checks,
            f"The median L-inf distance of the nearest adversarial image is {'; '.join(said)}.",
            how(context),
            "The paper's distances are those of the one image that it shows at each (alpha, beta), "
            "so they cannot be compared with our medians over all attacked images. Our example is "
            "the image whose distance at (1, 0) is nearest to the median.",
            rule=APART,
            figures=shown,
        )

    @staticmethod
    def _attack(
        context: Context, model: str, place: tuple[float, float], published: float
    ) -> Transformed:
        what = f"{model}, alpha {place[0]:g}, beta {place[1]:g}"
        few, records = attacked(context, context.run(model), what, contrast_shift(*place))
        records = rec.correct(records)
        return Transformed(*place, published, few, records, median(records["linf"].to_numpy()))

    @staticmethod
    def _example(cells: list[Transformed]) -> int | None:
        """Return the image fooled in all cells whose first distance is nearest to the median."""
        first, *others = (cell.records.filter("success").select("index", "linf") for cell in cells)
        for other in others:
            first = first.join(other, on="index", how="semi")
        if first.is_empty():
            return None
        return first.sort((pl.col("linf") - cells[0].distance.value).abs(), "index")["index"][0]

    @staticmethod
    def _images(data: str, cells: list[Transformed], index: int) -> Drawn:
        """Draw inputs above adversarial images, a column for each cell."""
        columns = {}
        for cell in cells:
            record = cell.records.row(by_predicate=pl.col("index") == index, named=True)
            transform, classes = contrast_shift(cell.alpha, cell.beta), cell.run.claim.data.classes
            _, *pair = cell.run.examples([record["attack"]], transform, [index])
            taken = classes[record["adversarial_prediction"]]
            said = f"classified as {taken}, L-inf {record['linf']:.3f}"
            columns[cell.label] = np.concatenate(pair), [classes[record["label"]], said]
        printed = ", ".join(f"{cell.published:.3f}" for cell in cells)
        caption = (
            f"A transformed test image of {data}, above the adversarial image near it. The "
            f"distances of the paper's examples are {printed}."
        )
        return gallery(data, caption, columns)

    @staticmethod
    def _example_row(cell: Transformed, index: int) -> Row:
        distance = Estimate(float(cell.records.filter(index=index)["linf"][0]), np.nan, np.nan, 1)
        return row(cell.keys, "L-inf distance of the example", distance, cell.published)


DETECTOR = 0.7
"""Smallest area under the ROC curve of an acceptable detector (Hosmer and Lemeshow)."""
TAIL = 0.995
"""Quantile of the distance beyond which images join the last bin."""


class Figure5(Item):
    """Distances to the training data before and after a scale and shift."""

    title = "Figure 5: distances of original and scaled images"
    source = "Zhang et al. 2019, section 4.4, Figure 5"
    models = ("mnist-pgd", "fashion-pgd")

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        rows, checks, drawn, said = [], [], [], {}
        for model in self.models:
            run = context.run(model)
            data = run.claim.data.name
            alpha, beta = published.FIGURE5[data]
            original, transformed = _distances(run, ScaleShift(alpha, beta))
            auc = auroc(transformed, original, run.seed, paired=True)
            measures = {
                "AUROC of distance": auc,
                "median distance, original": median(original),
                "median distance, transformed": median(transformed),
            }
            rows += ours({"data": data, "alpha": alpha, "beta": beta}, measures)
            claim = "distance is no acceptable detector of the change"
            checks.append(within(claim, data, auc, 1 - DETECTOR, DETECTOR))
            said[f"{data} at ({alpha:g}, {beta:g})"] = auc
            change = f"alpha {alpha:g}, beta {beta:g}"
            table = histograms({"original": original, change: transformed}, TAIL)
            caption = f"Distances of the test images of {data}, in the features of {model}"
            labels = ("distance to the training data", "share of images")
            drawn.append(curve(data, caption, table, ("distance", "share", "images"), labels))
        return self.finding(
            rows,
            checks,
            "AUROC of the distance to the training data as a detector of the change: "
            f"{listed(said, '{0.value:.3f} ({0.low:.3f} to {0.high:.3f})')}.",
            f"All test images; mean Euclidean distance to the {NEIGHBOURS} nearest training images "
            "in the features of the robust model, which have the scale of the paper's axes. The "
            "paper prints curves and no numbers, and judges by eye. The interval is bootstrapped "
            "over pairs of a test image and its transformed copy.",
            rule=f"the interval of the AUROC lies inside {1 - DETECTOR:.1f} to {DETECTOR:.1f} (0.5 "
            "is chance; below it, images come nearer)",
            figures=drawn,
        )


def _distances(run: Run, change: ScaleShift) -> tuple[np.ndarray, np.ndarray]:
    """Return distances to the training data of all test images and of their transformed copies."""
    data = run.claim.data

    def compute() -> pl.DataFrame:
        assert data.train is not None
        train, original = run.features(data.train, None), run.features(data.test, None)
        transformed = run.features(data.test, None, transform=change)
        distance = nearest_distance(train, np.concatenate([original, transformed]), NEIGHBOURS)
        n = len(original)
        return pl.DataFrame({"original": distance[:n], "moved": distance[n:]})

    table = run.table("moved distance", {"change": describe(change), "k": NEIGHBOURS}, compute)
    return table["original"].to_numpy(), table["moved"].to_numpy()
