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
from scotoma.papers.checks import Interval, within
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
        table = {score: _measures(score, trend) for score, trend in trends.items()}
        auc = {score: measures["auroc"].value for score, measures in table.items()}
        n, fooled = len(trends[MARGIN].fooled), int(trends[MARGIN].fooled.sum())
        claim = "robustness falls with the distance beyond what the margin explains"
        best = dict.fromkeys((DISTANCES[1], MARGIN, max(auc, key=auc.__getitem__)))
        caption = "Each score as a predictor of the images that the attack breaks; 0.5 is a guess"
        return self.finding(
            lines(table, lambda score, measures: ours({"predictor": score}, measures)),
            [within(claim, score, table[score]["at_equal_margin"], high=0) for score in DISTANCES],
            f"AUROC for the {fooled} of {n} images that the attack breaks, the best of all scores "
            f"last: {listed({score: auc[score] for score in best}, '{:.2f}')}.",
            f"Attack: {context.attack or ATTACK} within eps, on the first {n} images of a random "
            "order that the network classifies correctly. Distances are means over the "
            f"{COUNT} nearest of {TRAINING:,} training images.",
            "adv: the smallest perturbation of another network; conf, agr: over "
            f"{len(self.models)} networks; ret: after an epoch on {HELD_OUT:,} other test images; "
            f"priv: share of {len(NOISES) * len(PRIVATE_SEEDS)} private linear networks that are "
            "correct. All are taken with the sign that predicts success.",
            rule="the interval of the rank correlation at equal margin lies below 0",
            numbers={"n": n, "broken": fooled},
            summary=lines(table, lambda score, measures: cells(predictor=score, **measures, n=n)),
            figures=[bars("auroc", caption, {"AUROC": "auroc"}, "AUROC", label="predictor")],
        )


def _measures(name: str, trend: Trend) -> dict[str, Interval]:
    """Return the measures of a score."""
    score, fooled = trend.distance, trend.fooled
    return {
        "auroc": auroc(score[fooled], score[~fooled], trend.seed),
        "spearman": trend.overall,
        "at_equal_margin": UNDEFINED if name == MARGIN else trend.given_margin,
    }


def predicted(context: Context, models: tuple[str, ...]) -> dict[str, Trend]:
    """Attack the first network; return the trend of robustness with each score of its images.

    Scores are larger where an attack should succeed more easily.
    """
    run = context.run(models[0])
    subset = run.subset(run.correct_indices(context.limit or IMAGES))
    threat = run.claim.threat
    attack = Settings(context.attack or ATTACK).make_attack(threat)
    records = rec.correct(subset.attack(attack, what=f"  {models[0]}"))
    subset = subset.subset(records["index"].to_torch())
    scores = _scores(context, subset, models)
    other = context.run(models[1]).subset(subset.indices).attack(attack, what=f"  {models[1]}")
    smallest = other.sort("index")[threat.norm].to_numpy()
    scores["adv"] = -np.where(np.isfinite(smallest), smallest, 1.0)
    records = records.sort("index")
    scores[MARGIN] = -records["margin"].to_numpy()
    trend = trend_of(records, run)
    return {name: trend(score) for name, score in scores.items()}


def _scores(context: Context, run: Run, models: tuple[str, ...]) -> dict[str, np.ndarray]:
    split, train = run.claim.data.test, run.claim.data.train
    assert train is not None
    images, labels = split.images(run.indices), split.labels[run.indices]
    training = Sample(train, TRAINING, run.seed)
    each = (nearest_distances(*features, COUNT).mean(1) for features in spaces(run).values())
    scores = dict(zip(DISTANCES, each, strict=True))
    networks = [context.model(model) for model in models]
    probabilities = np.stack([_probabilities(each.module, images) for each in networks])
    scores["conf"] = -mean_confidence(probabilities)
    scores["agr"] = -ensemble_agreement(probabilities)
    retrained = _probabilities(_further(networks[0], run), images)
    scores["ret"] = -retraining_stability(probabilities[0], retrained)
    rows = torch.arange(len(training))
    training_data = training.images(rows), training.labels
    correct = [
        _private(*training_data, noise, seed)(images).argmax(1).eq(labels).numpy()
        for noise in NOISES
        for seed in PRIVATE_SEEDS
    ]
    scores["priv"] = -private_share(np.stack(correct))
    *_, last_layer = (m for m in networks[0].module.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        logits = networks[0].module(images).numpy()
    weights = last_layer.weight.detach().numpy()
    scores["margin in features"] = -feature_margin(logits, labels.numpy(), weights)
    return scores


@torch.no_grad()
def _probabilities(module: nn.Module, images: Tensor) -> np.ndarray:
    return module(images).double().softmax(1).numpy()


def _further(network: Classifier, run: Run) -> nn.Module:
    """Return the network after an epoch of its training on test images that are not in `run`."""
    split, module = run.claim.data.test, deepcopy(network.module).requires_grad_(True)
    order = shuffled(len(split), run.seed)
    rest = order[~torch.isin(order, run.indices)][:HELD_OUT]
    recipe, generator = PGDTraining(run.claim.threat, steps=4), Generator().manual_seed(run.seed)
    optimizer = torch.optim.Adam(module.parameters(), RATE)
    with run.progress.bar("  training on other images", len(rest)) as advance:
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
        perturbation = noise * torch.randn(weights.shape, generator=generator)
        weights -= PRIVATE_RATE * (x[rows].T @ residual + perturbation) / batch
    return lambda images: F.normalize(images.flatten(1)) @ weights
