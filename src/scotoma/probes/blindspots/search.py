"""The search for the composed transform after which a model is least robust.

The score of a transform is the mean smallest perturbation of the images that the search chooses on,
as a share of the scaled budget and at most `MOST`, plus a price for accuracy beyond what is
harmless. Every pass of the model counts, forward and backward.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import torch
from torch import Tensor

from scotoma.attacks.core.losses import margin
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted, Oracle
from scotoma.attacks.strong import SEARCHES
from scotoma.execution.run import Run
from scotoma.threat import Threat
from scotoma.transforms.space import Space
from scotoma.utils.optional import require
from scotoma.utils.random import Randomness

SPARE = 0.005
"""Cost of accuracy that the search allows: half of what is harmless, for the interval."""
PRICE = 20.0
"""Score that a cost of one (all images) beyond that is worth."""
SURVEYED = 50
"""Test images for each attacked one, from whose margins the accuracy sample is drawn."""
NEAREST, OTHERS = 500, 0.6
"""Accuracy is estimated on the tenth of these images with the smallest margins, at most `NEAREST`,
which a transform loses first, and on a sample of the others, `OTHERS` times as many."""
MOST = 1.5
"""Largest share of the budget: beyond 1, so that a score falls before the first image is fooled."""
PUSHES = 6
"""Attack steps before a gradient with respect to the parameters."""
PROBE = 0.05
"""Step of the central difference of a transform with respect to a parameter, in [-1, 1]."""
PACE = 0.15
"""First step of the ascent, in units of the range of a parameter."""
POPULATION = 8
SPREAD = {"local": 0.12, "global": 0.4}
"""First deviation of CMA-ES, after the ascent and alone."""


@dataclass(frozen=True)
class Visit:
    """A point that was scored, after this many passes in all."""

    passes: int
    score: float
    cost: float
    point: tuple[float, ...]


@dataclass
class Objective:
    """The score of a composition on some images, and its gradient; counts the passes.

    Args:
        run: whose model is searched.
        space: the compositions.
        selection: images on which the attack is scored, int64 (n,).
        screen: images in random order, int64 (m,); accuracy is estimated on some of the first.
        steps: gradient steps of the attack.
        rows: images in one score; another score takes the same ones.
    """

    run: Run
    space: Space
    selection: Tensor
    screen: Tensor
    steps: int = 20
    rows: int = 40
    passes: int = 0
    visits: list[Visit] = field(default_factory=list)

    def __post_init__(self):
        images, labels = self.run.test_images(self.selection)
        correct = self._margins(images, labels) < 0
        self.images, self.labels = images[correct], labels[correct]
        self.screen = self.screen[: SURVEYED * len(self.selection)]
        margins = self._margins(*self.run.test_images(self.screen))
        order = margins.abs().argsort().cpu()
        near = order[: min(NEAREST, math.ceil(len(order) / 10))]
        others = min(math.ceil(OTHERS * len(near)), len(order) - len(near))
        positions = torch.linspace(len(near), len(order) - 1, others)
        rest = order[positions.long()]
        self.screened, self.truth = self.run.test_images(self.screen[torch.cat([near, rest])])
        share = (len(order) - len(near)) / len(order) / len(rest)
        self.weight = torch.tensor([1 / len(order)] * len(near) + [share] * len(rest))
        self.correct_before = margins[torch.cat([near, rest])].cpu() < 0

    @property
    def threat(self) -> Threat:
        return self.run.claim.threat

    def score(self, point: np.ndarray) -> Visit:
        """Return the score of a point, and keep the visit."""
        transform = self.space.at(np.clip(point, -1, 1))
        cost = self.cost(transform)
        images, labels = transform(self.images[: self.rows]), self.labels[: self.rows]
        budget = transform.contrast * self.threat.eps
        model = self._counted(len(images))
        attack = SEARCHES[self.threat.norm](self.threat.norm, steps=self.steps, restarts=0)
        random = Randomness(0, torch.arange(len(images), device=images.device), "score")
        perturbation = attack(model, images, labels, generator=random) - images
        wrong = self._margins(images, labels) >= 0
        distance = size(perturbation, self.threat.norm)
        share = torch.where((distance == 0) | wrong, MOST, (distance / budget).clamp(max=MOST))
        self._count(model)
        value = float(share.mean()) + PRICE * max(0.0, cost - SPARE)
        visit = Visit(self.passes, value, cost, tuple(np.clip(point, -1, 1).tolist()))
        self.visits.append(visit)
        return visit

    def cost(self, transform: Callable[[Tensor], Tensor]) -> float:
        """Return the accuracy that a transform costs, estimated by the screened images."""
        return self._cost(self._margins(transform(self.screened), self.truth))

    def _cost(self, margins: Tensor) -> float:
        correct = (margins < 0).cpu()
        return float((self.weight * (self.correct_before.float() - correct.float())).sum())

    def ascent(self, point: np.ndarray, rows: Tensor) -> tuple[np.ndarray, float]:
        """Return a direction that helps the attack, or restores accuracy where too much is lost.

        A few attack steps find a perturbation. The gradient of the margin with respect to the
        parameters is its gradient at the attacked image times the derivative of that image. The
        derivative is a central difference of the transform, which takes no pass.

        Returns:
            The direction (d,), and the cost of accuracy at the point.
        """
        transform = self.space.at(point, keep=True)
        images = transform(self.screened)
        margins = self._margins(images, self.truth)
        cost = self._cost(margins)
        if cost > SPARE:
            worst = margins.topk(min(32, len(margins))).indices
            clean, labels, noise, sign = self.screened[worst], self.truth[worst], None, -1.0
            x = images[worst]
        else:
            clean, labels, sign = self.images[rows], self.labels[rows], 1.0
            x, noise = self._push(transform(clean), labels, transform.contrast)
        model = self._counted(len(x))
        gradient, value, _ = Oracle(model, labels).value_and_grad(x, margin)
        self._count(model)
        scale = value.abs().median().clamp_min(1e-9)
        weight = torch.sigmoid(-sign * value / scale)
        gradient = gradient * (sign * weight)[:, None, None, None]

        def image_at(parameters: np.ndarray) -> Tensor:
            other = self.space.at(parameters, keep=True)
            shifted = other(clean)
            return shifted if noise is None else (shifted + other.contrast * noise).clamp(0, 1)

        slopes = np.zeros(len(point))
        for i in range(len(point)):
            up, down = point.copy(), point.copy()
            up[i], down[i] = min(1.0, up[i] + PROBE), max(-1.0, down[i] - PROBE)
            difference = (image_at(up) - image_at(down)) / (up[i] - down[i])
            slopes[i] = float((gradient * difference).sum())
        return slopes, cost

    def _push(self, images: Tensor, labels: Tensor, contrast: float) -> tuple[Tensor, Tensor]:
        """Return attacked images, and their perturbations divided by the contrast."""
        ball = Threat(self.threat.norm, contrast * self.threat.eps)
        model, x = self._counted(len(images)), images
        oracle = Oracle(model, labels)
        for step in range(PUSHES):
            gradient = oracle.value_and_grad(x, margin)[0]
            pace = 1.0 if step == 0 else 2.0 / PUSHES
            x = ball.project(x + ball.steepest(gradient) * pace, images)
        self._count(model)
        return x, (x - images) / contrast

    def _margins(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the best other logit minus that of the label; above 0 where the model is wrong."""
        self.passes += len(images)
        with torch.no_grad():
            parts = zip(images.split(500), labels.split(500), strict=True)
            return torch.cat([margin(self.run.model(x).float(), y) for x, y in parts])

    def _counted(self, n: int) -> Counted:
        return Counted(self.run.model, n, self.images.device)

    def _count(self, model: Counted) -> None:
        self.passes += int(model.forwards.sum() + model.backwards.sum())

    @property
    def best(self) -> Visit:
        """The point with the lowest score."""
        return min(self.visits, key=lambda visit: visit.score)


def gradient_search(
    objective: Objective, starts: Sequence[np.ndarray], most: int, seed: int
) -> None:
    """Follow gradients from the best starts, then CMA-ES from the best point, within `most` passes.

    All starts are scored. Ascents from the two best starts and from their sum share half of the
    passes equally. CMA-ES, which also changes parameters that gradients do not, gets the rest.
    """
    limit = objective.passes + most
    scores = [objective.score(np.array(each, float)).score for each in starts]
    best = [np.array(starts[i], float) for i in np.argsort(scores)[:2]]
    paths = [sum(best[1:], best[0]), *best]
    for number, start in enumerate(paths):
        remaining = len(paths) - number
        end = objective.passes + (limit - objective.passes - most // 2) // remaining
        _follow(objective, np.clip(start, -1, 1), end, seed + number)
    evolution(objective, limit - objective.passes, seed, objective.best.point, "local")


def _follow(objective: Objective, point: np.ndarray, end: int, seed: int) -> None:
    """Ascend from a point with steps of falling size, each of one length over all parameters."""
    generator, momentum, spread = np.random.default_rng(seed), np.zeros(len(point)), None
    begin, n, tick = objective.passes, len(objective.images), 0
    while objective.passes < end:
        progress = (objective.passes - begin) / max(1, end - begin)
        rows = torch.from_numpy(generator.permutation(n)[: objective.rows])
        slopes, _ = objective.ascent(point, rows)
        square = slopes**2
        spread = square if spread is None else 0.8 * spread + 0.2 * square
        momentum = 0.5 * momentum + slopes / (np.sqrt(spread) + 1e-12)
        point = np.clip(point + PACE * (1 - 0.8 * min(1, progress)) * momentum, -1, 1)
        tick += 1
        if tick % 3 == 0:
            objective.score(point)
    objective.score(point)


def evolution(
    objective: Objective,
    most: int,
    seed: int,
    start: Sequence[float] | None = None,
    spread: str = "global",
) -> None:
    """CMA-ES (Hansen 2016) within `most` passes, from a start or from where nothing is changed.

    After a strategy has converged, another one starts from the best point, twice as wide.
    """
    cma = require("cma", "the search over compositions")
    end = objective.passes + most
    begin = np.zeros(objective.space.dimensions) if start is None else np.array(start, float)
    options = {"bounds": [-1, 1], "seed": seed + 1, "popsize": POPULATION, "verbose": -9}
    width = SPREAD[spread]
    while objective.passes < end:
        strategy = cma.CMAEvolutionStrategy(begin, width, options)
        while not strategy.stop():
            points, scores = strategy.ask(), []
            for point in points:
                scores.append(objective.score(np.asarray(point)).score)
                if objective.passes >= end:
                    return
            strategy.tell(points, scores)
        begin, width = np.array(objective.best.point), min(0.8, 2 * width)


def random_search(objective: Objective, most: int, seed: int) -> None:
    """Score uniform random points within `most` passes; each parameter is off in half of them."""
    generator, end = np.random.default_rng(seed), objective.passes + most
    size = objective.space.dimensions
    while objective.passes < end:
        objective.score(generator.uniform(-1, 1, size) * (generator.random(size) < 0.5))


def as_table(visits: Sequence[Visit]) -> pl.DataFrame:
    """Return visits as a table, a row each."""
    return pl.DataFrame([{**vars(each), "point": json.dumps(each.point)} for each in visits])


def from_table(table: pl.DataFrame) -> list[Visit]:
    """Return the visits of `as_table`."""
    rows = table.iter_rows(named=True)
    return [Visit(**{**row, "point": tuple(json.loads(row["point"]))}) for row in rows]


def best_so_far(visits: Sequence[Visit]) -> Iterator[tuple[int, float]]:
    """Yield the passes and the lowest score up to each visit."""
    lowest = np.inf
    for visit in visits:
        lowest = min(lowest, visit.score)
        yield visit.passes, lowest
