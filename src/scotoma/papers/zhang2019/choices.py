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
from scotoma.papers.checks import Check, within
from scotoma.papers.figures import curve
from scotoma.papers.item import Context, Item, cells, lines, listed, ours
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


class Choices(Item):
    """Rank correlation of distance and smallest perturbation, by how distance is measured."""

    title = "Figure 3 by other choices of the distance, for two networks"
    source = "Zhang et al. 2019, equation 2 and section 4.2, Figure 3"
    models = ("cifar-robust", "cifar-pgd-4")

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        measured = context.each(self.title, {m: m for m in self.models}, partial(trends, context))
        compared = {
            f"{model}, {choice.space}": each[choice].overall
            for model, (each, _) in measured.items()
            for choice in SHOWN
        }
        caption, labels = "Rank correlation", ("nearest training images, k", "rank correlation")
        by_k = lines(measured, _by_k)
        return self.finding(
            lines(measured, _rows),
            [check for model, each in measured.items() for check in _checks(model, each)],
            "Rank correlation of distance and smallest perturbation: "
            f"{listed(compared, '{0.value:.2f} ({0.low:.2f} to {0.high:.2f})', '; ')}.",
            how(context),
            f"Distances are to {TRAINING:,} random training images, in the features of the robust "
            f"model or in pixels. The kernel density is Gaussian, over the {COUNTS[-1]} nearest "
            "training images.",
            *([] if find_spec("umap") else [MISSING]),
            rule="the interval of the rank correlation lies below 0",
            numbers={"n": min(len(length) for _, length in measured.values())},
            summary=lines(measured, _summary),
            figures=[curve("by_k", caption, by_k, ("k", "spearman", "line"), labels)],
        )


Measured = tuple[dict[Choice, Trend], np.ndarray]
"""Trends by choice, and the length of each image's features, (n,)."""
MISSING = f"Left out: the {PLANE}; pip install umap-learn."
SHOWN = (Choice(SPACES[0]), Choice(SPACES[1]))
"""Choices that are compared with the paper: its own, and the same with features of unit length."""


def trends(context: Context, model: str) -> Measured:
    """Attack a model, and return how robustness changes with each distance."""
    run = context.run(model)
    few, records = attacked(context, run, model)
    config = {"training": str(TRAINING), "choices": [*map(str, measurable())], "seed": run.seed}
    distances = few.table("choices of distance", config, lambda: _distances(few))
    table = rec.correct(records).join(distances, on="index", maintain_order="left")
    trend = trend_of(table, run)
    each = {choice: trend(table[str(choice)].to_numpy()) for choice in measurable()}
    return each, table["length"].to_numpy()


def trend_of(records: pl.DataFrame, run: Run) -> Callable[[np.ndarray], Trend]:
    """Return what makes a trend of a distance (n,) of the attacked images, all correct."""
    threat = run.claim.threat
    return partial(
        Trend,
        margin=records["margin"].to_numpy(),
        smallest=records[threat.norm].to_numpy(),
        broken=rec.successes(records, threat.eps, threat.norm),
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

    def reduced(images: np.ndarray) -> np.ndarray:
        return components.transform(images).astype(np.float32)

    unit = unit_length(features[0]), unit_length(features[1])
    main = (reduced(pixels[0]), reduced(pixels[1]))
    return dict(zip(SPACES, (features, unit, pixels, main), strict=True))


def plane(pixels: tuple[np.ndarray, np.ndarray], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return training images and others in a plane that UMAP fits to the former, float32 (n, 2)."""
    reduce = require("umap", f"the {PLANE}", "umap-learn").UMAP(random_state=seed, n_jobs=1)
    trained = reduce.fit_transform(pixels[0])
    return trained.astype(np.float32), reduce.transform(pixels[1]).astype(np.float32)


def _distances(run: Run) -> pl.DataFrame:
    places = spaces(run)
    if find_spec("umap"):
        places[PLANE] = plane(places["pixels"], run.seed)
    nearest: dict[tuple[str, float], np.ndarray] = {}
    for space, p in dict.fromkeys((choice.space, choice.p) for choice in measurable()):
        trained, tested = places[space]
        nearest[space, p] = nearest_distances(trained, tested, max(COUNTS), p)
    return pl.DataFrame(
        {
            "index": run.indices.numpy(),
            "length": np.linalg.norm(places[SPACES[0]][1], axis=1),
            **{str(c): c.measure(nearest[c.space, c.p]) for c in measurable()},
        }
    )


def _rows(model: str, measured: Measured) -> list[Row]:
    rows = []
    for choice, trend in measured[0].items():
        found = {
            "rank correlation": trend.overall,
            "rank correlation at equal margin": trend.given_margin,
            "success, nearest fifth": trend.near,
            "success, farthest fifth": trend.far,
        }
        rows += ours({"model": model, "distance": str(choice)}, found)
    return rows


def _summary(model: str, measured: Measured) -> list[Row]:
    each, length = measured
    return [
        cells(
            model=f"{model}, {choice.space}",
            spearman=each[choice].overall,
            at_equal_margin=each[choice].given_margin,
            at_equal_length=each[choice].given(length),
            nearest_fifth=each[choice].near,
            farthest_fifth=each[choice].far,
            with_length=spearman(each[choice].distance, length, each[choice].seed),
            n=len(length),
        )
        for choice in SHOWN
    ]


def _checks(model: str, measured: Measured) -> list[Check]:
    return [
        within(
            f"robustness falls with the distance in {choice.space}",
            model,
            measured[0][choice].overall,
            high=0,
        )
        for choice in SHOWN
    ]


def _by_k(model: str, measured: Measured) -> list[Row]:
    return [
        cells(line=f"{model}, {choice.space}", k=choice.k, spearman=trend.overall)
        for choice, trend in measured[0].items()
        if choice.p == 2 and choice.space in SPACES[:2] and not choice.kernel
    ]
