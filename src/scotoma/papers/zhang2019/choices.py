"""Figure 3 by other choices in equation 2: k, p, the length of features, and the space."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import numpy as np
import polars as pl
from sklearn.decomposition import PCA

from scotoma.data.dataset import Sample
from scotoma.execution import records as rec
from scotoma.execution.run import Run
from scotoma.metrics.neighbours import nearest_distances, unit_length
from scotoma.models.features import PIXELS
from scotoma.papers.checks import within
from scotoma.papers.figures import curve
from scotoma.papers.item import Context, Item, cells, flat, lines, listed, ours
from scotoma.papers.zhang2019 import attacked, how
from scotoma.probes.distance.trend import Trend
from scotoma.results.finding import Finding, Row
from scotoma.utils.optional import require
from scotoma.utils.stats import spearman

TRAINING = 10_000
"""Training images drawn at random, to which distances are measured."""
COUNTS = (1, 2, 5, 10, 20, 50)
"""Numbers of nearest training images. The paper has 5 and says that others hardly differ."""
NORMS = (1.0, 2.0, math.inf)
COMPONENTS = 50
"""Principal components of the pixels."""
SPACES: tuple[str, ...] = (
    "features",
    "features of unit length",
    "pixels",
    f"{COMPONENTS} principal components of the pixels",
)

PLANE = "plane of UMAP on the pixels"
"""A space of its own, where the package umap-learn is installed: the paper names it beside PCA."""


@dataclass(frozen=True)
class Choice:
    """One way to measure the distance to the training data.

    Args:
        space: one of `SPACES`, or `PLANE`.
        k: number of nearest training images.
        p: order of the norm.
        kernel: take the negative log density of a Gaussian kernel on these images in place of their
            mean distance; its width is the median distance to them.
    """

    space: str
    k: int = 5
    p: float = 2.0
    kernel: bool = False

    def __str__(self) -> str:
        if self.kernel:
            return f"{self.space}, kernel density"
        norm = "" if self.p == 2 else f", p = {self.p:g}"
        return f"{self.space}, k = {self.k}{norm}"

    def measure(self, nearest: np.ndarray) -> np.ndarray:
        """Return the distances (m,) for those to the nearest training images (m, k), ascending."""
        if not self.kernel:
            return nearest[:, : self.k].mean(1)
        exponent = -0.5 * (nearest / np.median(nearest)) ** 2
        return -np.logaddexp.reduce(exponent, axis=1)


CHOICES = (
    *(Choice(space, k) for space in SPACES[:2] for k in COUNTS),
    *(Choice(space, p=p) for space in SPACES[:2] for p in NORMS if p != 2),
    *(Choice(space) for space in SPACES[2:]),
    *(Choice(space, COUNTS[-1], kernel=True) for space in SPACES[:2]),
)
"""The first of a space with k = 5 and p = 2 is the paper's."""


def measurable() -> tuple[Choice, ...]:
    """Return what is measured on this machine."""
    return (*CHOICES, Choice(PLANE)) if find_spec("umap") else CHOICES


SHOWN = (Choice(SPACES[0]), Choice(SPACES[1]))
"""Choices that are compared with the paper: its own, and the same with features of unit length."""


class Choices(Item):
    """Rank correlation of distance and smallest perturbation, by how distance is measured."""

    title = "Figure 3 by other choices of the distance, for two networks"
    source = "Zhang et al. 2019, equation 2 and section 4.2, Figure 3"
    models = ("cifar-robust", "cifar-pgd-4")

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        results = context.each(self.title, {m: m for m in self.models}, partial(trends, context))
        lengths = {model: length for model, (_, length) in results.items()}
        all_trends = flat({model: trends_of for model, (trends_of, _) in results.items()})
        shown = {key: each for key, each in all_trends.items() if key[1] in SHOWN}
        overall = {f"{model}, {choice.space}": t.overall for (model, choice), t in shown.items()}
        by_k = [
            cells(line=f"{model}, {choice.space}", k=choice.k, spearman=each.overall)
            for (model, choice), each in all_trends.items()
            if choice.space in SPACES[:2] and choice == Choice(choice.space, choice.k)
        ]
        labels = ("nearest training images, k", "rank correlation")
        return self.finding(
            lines(all_trends, _rows),
            [
                within(f"robustness falls with the distance in {c.space}", m, t.overall, high=0)
                for (m, c), t in shown.items()
            ],
            "Rank correlation of distance and smallest perturbation: "
            f"{listed(overall, '{0.value:.2f} ({0.low:.2f} to {0.high:.2f})', '; ')}.",
            how(context),
            f"Distances are to {TRAINING:,} random training images. The kernel density is "
            f"Gaussian, over the {COUNTS[-1]} nearest.",
            *([] if find_spec("umap") else [f"Left out: the {PLANE}; pip install umap-learn."]),
            rule="the interval of the rank correlation lies below 0",
            numbers={"n": min(map(len, lengths.values()))},
            summary=lines(shown, lambda key, each: _summary(key, each, lengths[key[0]])),
            figures=[curve("by_k", "Rank correlation", by_k, ("k", "spearman", "line"), labels)],
        )


def _rows(key: tuple[str, Choice], each: Trend) -> list[Row]:
    measures = {
        "rank correlation": each.overall,
        "rank correlation at equal margin": each.given_margin,
        "success, nearest fifth": each.near,
        "success, farthest fifth": each.far,
    }
    return ours({"model": key[0], "distance": str(key[1])}, measures)


def _summary(key: tuple[str, Choice], each: Trend, length: np.ndarray) -> Row:
    return cells(
        model=f"{key[0]}, {key[1].space}",
        spearman=each.overall,
        at_equal_margin=each.given_margin,
        at_equal_length=each.given(length),
        nearest_fifth=each.near,
        farthest_fifth=each.far,
        with_length=spearman(each.distance, length, each.seed),
        n=len(length),
    )


def trends(context: Context, model: str) -> tuple[dict[Choice, Trend], np.ndarray]:
    """Attack a model; return how robustness changes with each distance, and lengths of features."""
    run = context.run(model)
    subset, records = attacked(context, run, model)
    config = {"training": str(TRAINING), "choices": [*map(str, measurable())], "seed": run.seed}
    distances = subset.table("choices of distance", config, lambda: _distances(subset))
    table = rec.correct(records).join(distances, on="index", maintain_order="left")
    trend = trend_of(table, run)
    each = {choice: trend(table[str(choice)].to_numpy()) for choice in measurable()}
    return each, table["length"].to_numpy()


def trend_of(records: pl.DataFrame, run: Run) -> Callable[[np.ndarray], Trend]:
    """Return a function from a distance (n,) of the attacked images, all correct, to its trend."""
    threat = run.claim.threat
    return partial(
        Trend,
        margin=records["margin"].to_numpy(),
        smallest=records[threat.norm].to_numpy(),
        fooled=rec.successes(records, threat.eps, threat.norm),
        seed=run.seed,
    )


def spaces(run: Run) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return random training images and the run's images in each of `SPACES`."""
    data = run.claim.data
    assert data.train is not None
    train = Sample(data.train, TRAINING, run.seed)
    features, pixels = (
        (run.features(train, layer), run.features(data.test, layer, run.indices))
        for layer in (None, PIXELS)
    )
    components = PCA(min(COMPONENTS, *pixels[0].shape), random_state=run.seed).fit(pixels[0])
    main = [components.transform(each).astype(np.float32) for each in pixels]
    unit = unit_length(features[0]), unit_length(features[1])
    return dict(zip(SPACES, (features, unit, pixels, (main[0], main[1])), strict=True))


def plane(pixels: tuple[np.ndarray, np.ndarray], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return training images and others in a plane that UMAP fits to the former, float32 (n, 2)."""
    reduce = require("umap", f"the {PLANE}", "umap-learn").UMAP(random_state=seed, n_jobs=1)
    train = reduce.fit_transform(pixels[0])
    return train.astype(np.float32), reduce.transform(pixels[1]).astype(np.float32)


def _distances(run: Run) -> pl.DataFrame:
    points = spaces(run)
    if find_spec("umap"):
        points[PLANE] = plane(points["pixels"], run.seed)
    nearest: dict[tuple[str, float], np.ndarray] = {}
    for space, p in dict.fromkeys((choice.space, choice.p) for choice in measurable()):
        train, test = points[space]
        nearest[space, p] = nearest_distances(train, test, max(COUNTS), p)
    return pl.DataFrame(
        {
            "index": run.indices.numpy(),
            "length": np.linalg.norm(points[SPACES[0]][1], axis=1),
            **{str(c): c.measure(nearest[c.space, c.p]) for c in measurable()},
        }
    )
