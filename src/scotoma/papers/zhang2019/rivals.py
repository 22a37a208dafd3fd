"""Rivals of the distance to the training data, as predictors of which images an attack breaks.

The paper explains failures by that distance. Carlini et al. 2019 score how well an image is
represented in five other ways, and Ngnawe et al. 2024 use the margin of a robust network.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from scotoma.data.dataset import Sample
from scotoma.execution import records as rec
from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled
from scotoma.metrics.neighbours import nearest_distances
from scotoma.metrics.represented import (
    ensemble_agreement,
    feature_margin,
    mean_confidence,
    private_share,
    retraining_stability,
)
from scotoma.metrics.risk import auroc
from scotoma.models.classifier import Classifier
from scotoma.papers.checks import Measured, within
from scotoma.papers.figures import bars
from scotoma.papers.item import Context, Item, cells, lines, listed, ours
from scotoma.papers.zhang2019.causes import ATTACK
from scotoma.papers.zhang2019.choices import SPACES, TRAINING, spaces, trend_of
from scotoma.probes.base import Settings
from scotoma.probes.distance.trend import Trend
from scotoma.results.finding import Finding, Row
from scotoma.training.pgd import PGDTraining
from scotoma.utils.stats import UNDEFINED

IMAGES = 300
"""Images of the test set that are attacked."""
COUNT = 5
"""Nearest training images over which a distance is a mean, as in the paper."""
HELD_OUT = 5000
"""Other test images, on which the network is trained further."""
BATCH, RATE = 32, 1e-3
NOISES = (64.0, 32.0, 16.0, 8.0, 4.0)
"""Standard deviations of the noise of private training, in units of the clipped gradients."""
PRIVATE_SEEDS = (0, 1, 2)
PRIVATE_STEPS, PRIVATE_BATCH, PRIVATE_RATE = 300, 1000, 8.0
DISTANCES = tuple(f"distance in {space}" for space in SPACES)
MARGIN = "margin"


class Rivals(Item):
    """The distance and its rivals on one network, with the same images for all."""

    title = "Distance to the training data and its rivals, as predictors of broken images"
    source = "Zhang et al. 2019, section 3.1; Carlini et al. 2019; Ngnawe et al. 2024"
    models = ("mnist-60k-0", "mnist-60k-1", "mnist-30k-0", "mnist-30k-1")
    """The attacked network, then others of its kind for scores that need several."""

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        trends = predicted(context, self.models)
        shown = {score: _measures(score, trend) for score, trend in trends.items()}
        auc = {score: measures["auroc"].value for score, measures in shown.items()}
        n, broken = len(trends[MARGIN].broken), int(trends[MARGIN].broken.sum())
        claim = "robustness falls with the distance beyond what the margin explains"
        best = dict.fromkeys((DISTANCES[1], MARGIN, max(auc, key=auc.__getitem__)))
        caption = "Each score as a predictor of the images that the attack breaks; 0.5 is a guess"
        return self.finding(
            lines(shown, lambda score, measures: ours({"predictor": score}, measures)),
            [within(claim, score, shown[score]["at_equal_margin"], high=0) for score in DISTANCES],
            f"AUROC for the {broken} of {n} images that the attack breaks, the best of all scores "
            f"last: {listed({score: auc[score] for score in best}, '{:.2f}')}.",
            f"Attack: {context.attack or ATTACK} within eps, on the first {n} images of a random "
            "order that the network classifies correctly. Distances are means over the "
            f"{COUNT} nearest of {TRAINING:,} training images.",
            "adv: the smallest perturbation of another network; conf, agr: over "
            f"{len(self.models)} networks; ret: after an epoch on {HELD_OUT:,} other test images; "
            f"priv: share of {len(NOISES) * len(PRIVATE_SEEDS)} private linear networks that are "
            "correct. All are taken with the sign that predicts success.",
            rule="the interval of the rank correlation at equal margin lies below 0",
            numbers={"n": n, "broken": broken},
            summary=lines(shown, lambda score, measures: cells(predictor=score, **measures, n=n)),
            figures=[bars("auroc", caption, {"AUROC": "auroc"}, "AUROC", label="predictor")],
        )


def _measures(name: str, trend: Trend) -> dict[str, Measured]:
    """Return what is shown of a score."""
    score, broken = trend.distance, trend.broken
    return {
        "auroc": auroc(score[broken], score[~broken], trend.seed),
        "spearman": trend.overall,
        "at_equal_margin": UNDEFINED if name == MARGIN else trend.given_margin,
    }


def predicted(context: Context, models: tuple[str, ...]) -> dict[str, Trend]:
    """Attack the first network, and return how robustness changes with each score of its images.

    Scores are larger where an attack should succeed more easily.
    """
    run = context.run(models[0])
    few = run.subset(run.correct_indices(context.limit or IMAGES))
    threat = run.claim.threat
    attack = Settings(context.attack or ATTACK).make_attack(threat)
    records = rec.correct(few.attack(attack, what=f"  {models[0]}"))
    few = few.subset(records["index"].to_torch())
    scores = _scores(context, few, models)
    other = context.run(models[1]).subset(few.indices).attack(attack, what=f"  {models[1]}")
    smallest = other.sort("index")[threat.norm].to_numpy()
    scores["adv"] = -np.where(np.isfinite(smallest), smallest, 1.0)
    records = records.sort("index")
    scores[MARGIN] = -records["margin"].to_numpy()
    trend = trend_of(records, run)
    return {name: trend(score) for name, score in scores.items()}


def _scores(context: Context, few: Run, models: tuple[str, ...]) -> dict[str, np.ndarray]:
    split, train = few.claim.data.test, few.claim.data.train
    assert train is not None
    images, labels = split.images(few.indices), split.labels[few.indices]
    near = Sample(train, TRAINING, few.seed)
    each = (nearest_distances(*place, COUNT).mean(1) for place in spaces(few).values())
    scores = dict(zip(DISTANCES, each, strict=True))
    networks = [context.model(model) for model in models]
    every = np.stack([_probabilities(each.module, images) for each in networks])
    scores["conf"], scores["agr"] = -mean_confidence(every), -ensemble_agreement(every)
    after = _probabilities(_further(networks[0], few), images)
    scores["ret"] = -retraining_stability(every[0], after)
    rows = torch.arange(len(near))
    seen = near.images(rows), near.labels
    correct = [
        _private(*seen, noise, seed)(images).argmax(1).eq(labels).numpy()
        for noise in NOISES
        for seed in PRIVATE_SEEDS
    ]
    scores["priv"] = -private_share(np.stack(correct))
    last = [part for part in networks[0].module.modules() if isinstance(part, nn.Linear)][-1]
    with torch.no_grad():
        logits = networks[0].module(images).numpy()
    weights = last.weight.detach().numpy()
    scores["margin in features"] = -feature_margin(logits, labels.numpy(), weights)
    return scores


@torch.no_grad()
def _probabilities(module: nn.Module, images: Tensor) -> np.ndarray:
    return module(images).double().softmax(1).numpy()


def _further(network: Classifier, few: Run) -> nn.Module:
    """Return the network after an epoch of its training on test images that are not in `few`."""
    split, module = few.claim.data.test, deepcopy(network.module).requires_grad_(True)
    order = shuffled(len(split), few.seed)
    rest = order[~torch.isin(order, few.indices)][:HELD_OUT]
    recipe, generator = PGDTraining(few.claim.threat, steps=4), Generator().manual_seed(few.seed)
    optimizer = torch.optim.Adam(module.parameters(), RATE)
    with few.progress.bar("  training on other images", len(rest)) as advance:
        for rows in rest.split(BATCH):
            loss = recipe(module, split.images(rows), split.labels[rows], 0.999, generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            advance(len(rows))
    return module.requires_grad_(False)


def _private(images: Tensor, labels: Tensor, noise: float, seed: int) -> Callable[[Tensor], Tensor]:
    """Return a linear network trained by private gradient descent (Abadi et al. 2016).

    Inputs have unit length, and the gradient of each image is clipped to length 1, the unit of the
    noise.
    """
    generator = Generator().manual_seed(seed)
    x = F.normalize(images.flatten(1))
    classes = int(labels.max()) + 1
    targets, weights = F.one_hot(labels, classes).float(), torch.zeros(x.shape[1], classes)
    batch = min(PRIVATE_BATCH, len(x))
    for _ in range(PRIVATE_STEPS):
        rows = torch.randint(len(x), (batch,), generator=generator)
        residual = (x[rows] @ weights).softmax(1) - targets[rows]
        residual /= residual.norm(dim=1, keepdim=True).clamp_min(1)
        shaken = noise * torch.randn(weights.shape, generator=generator)
        weights -= PRIVATE_RATE * (x[rows].T @ residual + shaken) / batch
    return lambda images: F.normalize(images.flatten(1)) @ weights
