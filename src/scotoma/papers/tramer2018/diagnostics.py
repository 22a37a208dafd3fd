"""How well one gradient step follows the loss, gradient norms, and adversarial directions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import polars as pl
from torch import Tensor

from scotoma.execution.run import Run
from scotoma.execution.sampling import UNIT
from scotoma.metrics.health import gradient_health
from scotoma.metrics.linearity import Linearity, loss_linearity
from scotoma.metrics.subspace import adversarial_directions, orders_within
from scotoma.papers.checks import APART, Check, apart, of_resamples
from scotoma.papers.figures import Drawing, curve
from scotoma.papers.item import Comparison, Context, cells, lines, listed, ours, row
from scotoma.papers.tramer2018 import published
from scotoma.papers.tramer2018.errors import IMAGES
from scotoma.reference import recipe_of
from scotoma.results.finding import Finding, Row
from scotoma.threat import Threat
from scotoma.utils.random import Randomness
from scotoma.utils.stats import RESAMPLES, UNDEFINED, Estimate, finite, rate

STEPS = 10
"""Steps of the iterated attack."""
SHARES = tuple(eps / published.IMAGENET_THREAT.eps for eps in published.FIGURE2_EPS)
"""Sizes of the directions: the paper's, as shares of eps."""
MANY = (1, 25, 50, 90)
"""Numbers of directions that have a row."""
DRAWN = (1, *range(5, 101, 5))
"""Numbers of directions in the figures."""


@dataclass(frozen=True)
class Diagnosis:
    """Measurements of a model at its images.

    Args:
        steps: losses and perturbations of one step and of many.
        norms: L2 norms of the cross-entropy's gradient by the image, (n,).
        directions: by size, how many orthogonal directions are adversarial for each image that is
            classified correctly, int (images,).
        orders: numbers of directions that were tried.
    """

    steps: Linearity
    norms: np.ndarray
    directions: dict[float, np.ndarray]
    orders: tuple[int, ...]

    @property
    def norm(self) -> Estimate:
        """Mean finite norm with its 95% bootstrap interval (percentile); NaN if there is none."""
        finite_norms = self.norms[np.isfinite(self.norms)]
        if not (n := len(finite_norms)):
            return UNDEFINED
        resamples = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
        return of_resamples(np.array([finite_norms.mean(), *finite_norms[resamples].mean(1)]), n)


Work = Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]
"""Maps indices, images and labels to columns."""


def diagnose(context: Context, model: str, shares: tuple[float, ...] = ()) -> Diagnosis:
    """Measure a reference model; `shares` are sizes of the directions as shares of eps.

    Directions are measured on as many correctly classified images as in the paper.
    """
    run = context.sample(model, IMAGES)
    threat, orders = run.claim.threat, orders_within(math.prod(run.claim.data.shape))
    table = _by_unit(run, "linearity", {"steps": STEPS}, partial(_steps, run))
    steps = Linearity(*(table[field.name].to_torch() for field in fields(Linearity)))
    subset = run.subset(run.correct_indices(min(len(run.indices), published.FIGURE2_IMAGES)))
    directions = {}
    for size in (Threat(threat.norm, share * threat.eps) for share in shares):
        config = {"eps": size.eps, "orders": orders, "seed": run.seed}
        counts = _by_unit(subset, "directions", config, partial(_directions, run, size, orders))
        directions[size.eps] = counts["directions"].to_numpy()
    return Diagnosis(steps, table["norm"].to_numpy(), directions, orders)


def _by_unit(run: Run, kind: str, config: Row, work: Work) -> pl.DataFrame:
    """Return the columns of `work` on a run's images, stored unit by unit."""
    frames, split = [], run.claim.data.test
    with run.progress.bar(f"  {run.claim.model.name}, {kind}", len(run.indices)) as advance:
        for indices in run.indices.split(UNIT):

            def compute(indices: Tensor = indices) -> pl.DataFrame:
                batch = split.images(indices), split.labels[indices]
                values = work(indices, *(each.to(run.device) for each in batch))
                columns = {"index": indices, **values}
                return pl.DataFrame({name: each.cpu().numpy() for name, each in columns.items()})

            frames.append(run.subset(indices).table(f"tramer2018 {kind}", config, compute))
            advance(len(indices))
    return pl.concat(frames)


def _steps(run: Run, indices: Tensor, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    steps = loss_linearity(run.model, images, labels, run.claim.threat, STEPS)
    norms = gradient_health(run.model, images, labels).cross_entropy.l2
    return {**vars(steps), "norm": norms}


def _directions(
    run: Run, size: Threat, orders: tuple[int, ...], indices: Tensor, images: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    random = Randomness(run.seed, indices.to(run.device), "adversarial directions")
    counts = adversarial_directions(run.model, images, labels, size, orders, random)
    return {"directions": counts.amax(1)}


class Diagnostics(Comparison):
    """Loss ratio, cosine, gradient norm and adversarial directions of model A on MNIST."""

    title = "Model A on MNIST: what natural, FGSM and ensemble training do to the gradient"
    source = "Tramer et al. 2018, section 4.1"
    trainings = {"natural": "tramer-a", "fgsm": "tramer-a-fgsm", "ensemble": "tramer-a-ensemble12"}
    counterparts = {"natural": "v3", "fgsm": "v3adv", "ensemble": "v3adv-ens4"}
    """The paper's network on ImageNet with the same training."""

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        models = self.each(context, partial(diagnose, shares=SHARES))
        fgsm, value = models["fgsm"], "{0.value:.2f} ({0.low:.2f} to {0.high:.2f})"
        ratios = {training: each.steps.ratio for training, each in models.items()}
        cosines = {training: each.steps.mean_cosine for training, each in models.items()}
        return self.finding(
            lines(models, self._rows),
            self.checks(models),
            f"Mean loss after one step, divided by that after {STEPS} steps: "
            f"{listed(ratios, value)}. Cosine of the two perturbations: {listed(cosines, value)}. "
            "The paper's claims are about ImageNet.",
            f"Losses, cosines and gradients on {len(fgsm.norms):,} test images drawn at random "
            f"(seed {context.seed}). The iterated attack takes {STEPS} steps of eps / {STEPS}. "
            "Norms are L2, of the cross-entropy's gradient by the image.",
            f"Directions on at most {published.FIGURE2_IMAGES} images that the model classifies "
            "correctly, at the paper's shares of eps. An image counts the most that one number of "
            f"directions ({', '.join(map(str, fgsm.orders))}) gives; how the paper chooses is "
            "unknown to us.",
            "The paper's numbers are of ImageNet and can be compared in order only.",
            rule=APART,
            numbers={"n": len(fgsm.norms)},
            summary=lines(models, self._summary),
            tables={
                "imagenet_in_the_paper": [
                    {"network": name, **_printed(short)}
                    for short, name in published.NETWORKS.items()
                    if short in published.LOSS_RATIO
                ]
            },
            figures=[_directions_of(models, eps) for eps in fgsm.directions],
        )

    @staticmethod
    def checks(models: dict[str, Diagnosis]) -> list[Check]:
        """Return what the paper says about ImageNet, as comparisons of trainings."""
        natural, fgsm, ensemble = (models[name] for name in ("natural", "fgsm", "ensemble"))
        after, before = (rate(e.directions[max(e.directions)] > 0) for e in (fgsm, natural))
        return [
            apart("loss ratio: fgsm below natural", fgsm.steps.ratio, natural.steps.ratio),
            apart("loss ratio: fgsm below ensemble", fgsm.steps.ratio, ensemble.steps.ratio),
            apart("cosine: fgsm below natural", fgsm.steps.mean_cosine, natural.steps.mean_cosine),
            apart("images with an adversarial direction: fgsm below natural", after, before),
            apart("gradient norm: natural below fgsm", natural.norm, fgsm.norm),
        ]

    def _rows(self, training: str, each: Diagnosis) -> list[Row]:
        model = self.trainings[training]
        keys = {"data": recipe_of(model).data, "model": model, "eps": None}
        measures = {"loss ratio": each.steps.ratio, "cosine": each.steps.mean_cosine}
        return ours(keys, measures | {"gradient norm": each.norm}) + [
            row(keys | {"eps": finite(eps)}, f"at least {k} adversarial directions", rate(n >= k))
            for eps, n in each.directions.items()
            for k in MANY
        ]

    def _summary(self, training: str, each: Diagnosis) -> Row:
        """Return a model's line, beside the paper's network with the same training."""
        network, steps = self.counterparts[training], each.steps
        line = cells(model=self.trainings[training], loss_ratio=steps.ratio)
        line |= cells(cosine=steps.mean_cosine, gradient_norm=each.norm, n=len(each.norms))
        line["paper"] = f"{network} on ImageNet"
        return line | {f"paper_{name}": value for name, value in _printed(network).items()}


def _directions_of(models: dict[str, Diagnosis], eps: float) -> Drawing:
    """Draw shares of images with at least k directions, against k, as the paper's Figure 2."""
    shares = [
        cells(training=training, k=k, share=(share := rate(each.directions[eps] >= k)), n=share.n)
        for training, each in models.items()
        for k in DRAWN
    ]
    caption = (
        f"Images with at least k orthogonal directions of size {eps:.3g} that change the label"
    )
    labels = ("adversarial directions, at least", "share of images")
    return curve(f"directions_{eps:.3g}", caption, shares, ("k", "share", "training"), labels)


def _printed(network: str) -> Row:
    ratio, cosine = published.LOSS_RATIO[network], published.COSINE.get(network)
    norm = published.GRADIENT_NORMS.get(network)
    return {"loss_ratio": ratio, "cosine": cosine, "gradient_norm": norm}
