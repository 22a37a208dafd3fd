"""Figures 1 to 3: success against distance. Figure 4: blind-spot images. Figure 5: detection."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl

from scotoma.execution import records as rec
from scotoma.execution.run import Run, describe
from scotoma.metrics.neighbours import nearest_distance
from scotoma.metrics.risk import auroc
from scotoma.papers.checks import APART, Interval, apart, within
from scotoma.papers.figures import Drawing, curve, gallery
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
        subset = run.subset(run.correct_indices(images(context)))
        distance = Distance(extractor=extractor).finding(run.claim, subset, settings(context))
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
            f"{'; '.join(self._sentence(numbers, space) for space in SPACES)}.",
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
    def _sentence(numbers: Row, space: tuple[str, str]) -> str:
        key, (model, length) = SPACES[space], space
        near, far = (numbers[f"{key}{end}_fifth_success"] for end in ("nearest", "farthest"))
        ends = [numbers[f"{key}spearman{end}"] for end in ("", "_low", "_high")]
        at_equal_margin = numbers[f"{key}spearman_given_margin"]
        correlation = "undefined" if ends[0] is None else "{:.2f} ({:.2f} to {:.2f})".format(*ends)
        suffix = "" if at_equal_margin is None else f", {at_equal_margin:.2f} at equal margin"
        return f"{model} model's features, {length}, {near:.1%}, {far:.1%}, {correlation}{suffix}"


def success(line: Row) -> Interval:
    """Return the rate in a line of the distance probe's bins or fifths."""
    return number(line, "rate", line["n"])


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


Place = tuple[float, float]
"""(alpha, beta) of a contrast shift."""


class Figure4(Item):
    """Blind-spot images and the adversarial images near them."""

    title = "Figure 4: examples of the blind-spot attack"
    source = "Zhang et al. 2019, section 4.4, Figure 4"
    models = ("fashion-pgd", "mnist-pgd")

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        rows, checks, drawings, texts = [], [], [], []
        for model in self.models:
            run = context.run(model)
            data, printed = run.claim.data.name, published.FIGURE4[run.claim.data.name]
            keys = {(a, b): {"data": data, "alpha": a, "beta": b} for a, b in printed}
            records = {
                place: rec.correct(
                    attacked(context, run, f"{model}, {label(place)}", contrast_shift(*place))[1]
                )
                for place in printed
            }
            medians = {place: median(each["linf"].to_numpy()) for place, each in records.items()}
            rows += [row(keys[place], "median L-inf distance", medians[place]) for place in printed]
            texts += [f"{medians[p].value:.3f} on {data} at {label(p)}" for p in printed]
            index = _example([*records.values()], next(iter(medians.values())).value)
            if index is not None:
                drawings.append(_images(run, records, index, printed.values()))
                for place, each in records.items():
                    size = float(each.filter(index=index)["linf"][0])
                    ours = Estimate(size, np.nan, np.nan, 1)
                    measure = "L-inf distance of the example"
                    rows.append(row(keys[place], measure, ours, printed[place]))
            for a, b in pairwise(printed):
                where = f"{data}, {label(b)} below {label(a)}"
                checks.append(apart("the median distance falls", medians[b], medians[a], where))
        return self.finding(
            rows,
            checks,
            f"The median L-inf distance of the nearest adversarial image is {'; '.join(texts)}.",
            how(context),
            "The paper's distances are those of the one image that it shows at each (alpha, beta), "
            "so they cannot be compared with our medians over all attacked images. Our example is "
            "the image whose distance at (1, 0) is nearest to the median.",
            rule=APART,
            figures=drawings,
        )


def label(place: Place) -> str:
    """Return a contrast shift in words."""
    return "alpha {:g}, beta {:g}".format(*place)


def _example(records: list[pl.DataFrame], middle: float) -> int | None:
    """Return the image fooled at all places whose first distance is nearest to `middle`."""
    first, *others = (each.filter("success").select("index", "linf") for each in records)
    for other in others:
        first = first.join(other, on="index", how="semi")
    ranked = first.sort((pl.col("linf") - middle).abs(), "index")["index"]
    return ranked[0] if len(ranked) else None


def _images(
    run: Run, records: dict[Place, pl.DataFrame], index: int, printed: Iterable[float]
) -> Drawing:
    """Draw inputs above adversarial images, a column for each place."""
    columns, data = {}, run.claim.data
    for place, each in records.items():
        record = each.row(by_predicate=pl.col("index") == index, named=True)
        _, *pair = run.examples([record["attack"]], contrast_shift(*place), [index])
        other = data.classes[record["adversarial_prediction"]]
        texts = data.classes[record["label"]], f"classified as {other}, L-inf {record['linf']:.3f}"
        columns[label(place)] = np.concatenate(pair), texts
    sizes = ", ".join(f"{each:.3f}" for each in printed)
    caption = (
        f"A transformed test image of {data.name}, above the adversarial image near it. The "
        f"distances of the paper's examples are {sizes}."
    )
    return gallery(data.name, caption, columns)


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
        rows, checks, drawings, aucs = [], [], [], {}
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
            aucs[f"{data} at ({alpha:g}, {beta:g})"] = auc
            distances = {"original": original, label((alpha, beta)): transformed}
            caption = f"Distances of the test images of {data}, in the features of {model}"
            labels = ("distance to the training data", "share of images")
            table, columns = histograms(distances, TAIL), ("distance", "share", "images")
            drawings.append(curve(data, caption, table, columns, labels))
        return self.finding(
            rows,
            checks,
            "AUROC of the distance to the training data as a detector of the change: "
            f"{listed(aucs, '{0.value:.3f} ({0.low:.3f} to {0.high:.3f})')}.",
            f"All test images; mean Euclidean distance to the {NEIGHBOURS} nearest training images "
            "in the features of the robust model, which have the scale of the paper's axes. The "
            "paper prints curves and no numbers, and judges by eye. The interval is bootstrapped "
            "over pairs of a test image and its transformed copy.",
            rule=f"the interval of the AUROC lies inside {1 - DETECTOR:.1f} to {DETECTOR:.1f} (0.5 "
            "is chance; below it, images come nearer)",
            figures=drawings,
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
