"""Why there are blind spots: scarce data, first-layer thresholds, and how a network was trained.

These items go beyond the paper, which names scarcity of training data as the cause and does not
test it. Networks that differ in one thing are attacked on the same test images.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import polars as pl
import torch
from torch import nn

from scotoma.execution import records as rec
from scotoma.execution.run import Run
from scotoma.metrics.neighbours import nearest_distance
from scotoma.models.features import PIXELS
from scotoma.papers.checks import Check, Interval, decided, of_resamples
from scotoma.papers.figures import Drawing, bars, curve
from scotoma.papers.item import Comparison, Context, cells, lines, listed, ours
from scotoma.probes.base import Settings
from scotoma.probes.blindspots.transformed import contrast_shift
from scotoma.probes.divergence.probe import Divergence
from scotoma.reference import FEW, SEEDS, recipe_of
from scotoma.results.finding import Finding, Row
from scotoma.utils.stats import RESAMPLES, mean

ATTACK = "min-linf"
"""Default attack: a tenth of the passes of `strong`, and a few points fewer successes."""
IMAGES = 200
"""Default number of test images."""
PLACES = ((1.0, 0.0), (0.9, 0.0), (0.9, 0.05), (0.8, 0.1))
"""(alpha, beta) of the contrast shifts; the first is the test set itself."""
BASE, SHIFTED = PLACES[0], PLACES[2]
"""Places that are compared."""
POINTS = 1000
"""Largest number of training and of test images for the K-L divergence, which depends on it."""
LEVELS = np.linspace(0, 0.5, 11)
"""Levels of a uniform background."""
RECTIFIED = {nn.Conv2d, nn.ReLU}
"""Layers of a network whose first layer has a response."""
REACH = 0.3
"""Size of the perturbations to which the first layer responds, the paper's eps on MNIST."""
RULE = (
    "the 95% interval of the difference, bootstrapped over test images and networks, lies above 0"
)

Place = tuple[float, float]


@dataclass(frozen=True)
class Group:
    """Networks that differ only in the seed of training, attacked on the same test images.

    Args:
        correct: bool (networks, images) by place: classified correctly.
        fooled: bool (networks, images) by place: correct, and fooled within alpha·eps.
        facts: other measurements by name, each (networks,).
        seed: seed of the bootstrap.
    """

    correct: dict[Place, np.ndarray]
    fooled: dict[Place, np.ndarray]
    facts: dict[str, np.ndarray]
    seed: int

    @cached_property
    def draws(self) -> list[tuple[np.ndarray, ...]]:
        """All networks and images, then resamples of both; all groups draw the same images."""
        networks, images = self.correct[BASE].shape
        of_networks, of_images = (np.random.default_rng([self.seed, i]) for i in (0, 1))
        resamples = [(np.arange(networks), np.arange(images))]
        for _ in range(RESAMPLES):
            resample = of_networks.integers(networks, size=networks)
            resamples.append((resample, of_images.integers(images, size=images)))
        return [np.ix_(*each) for each in resamples]

    def robust(self) -> np.ndarray:
        """Return the accuracy under attack on the test set, then that of each resample."""
        return self._means(self.correct[BASE] & ~self.fooled[BASE])

    def success(self, place: Place = SHIFTED) -> np.ndarray:
        """Return the attack success rate on correct images, then that of each resample."""
        fooled, correct = self.fooled[place], self.correct[place]
        return np.array([fooled[d].sum() / max(1, correct[d].sum()) for d in self.draws])

    def _means(self, values: np.ndarray) -> np.ndarray:
        return np.array([values[draw].mean() for draw in self.draws])

    def measures(self) -> dict[str, Interval]:
        """Return what is shown of the networks, by name."""
        resampled = {"accuracy": self._means(self.correct[BASE]), "robust accuracy": self.robust()}
        resampled |= {f"success at {name(place)}": self.success(place) for place in PLACES}
        n = self.correct[BASE].size
        return {
            **{measure: of_resamples(values, n) for measure, values in resampled.items()},
            **{fact: mean(values) for fact, values in self.facts.items()},
        }


def name(place: Place) -> str:
    """Return (alpha, beta) as tables name it."""
    return f"{place[0]:g}, {place[1]:g}"


def larger(claim: str, where: str, first: np.ndarray, second: np.ndarray, n: int) -> Check:
    """Check that the first value is larger; in both arrays those of the resamples follow it."""
    sides = ("first", first[0]), ("second", second[0])
    return decided(claim, where, *sides, of_resamples(first - second, n))


class GroupComparison(Comparison):
    """Groups of networks under contrast shifts."""

    trainings: dict[str, tuple[str, ...]]
    """Reference models by what they have in common."""

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        groups = self.each(context, self._group)
        shown = {group: each.measures() for group, each in groups.items()}
        n = min(each.correct[BASE].shape[1] for each in groups.values())
        rates = [rate for rate in next(iter(shown.values())) if rate.startswith(("robust", "succ"))]
        caption = "Accuracy under attack, and attack success within alpha·eps at (alpha, beta)"
        series = {rate: column(rate) for rate in rates}
        summaries = {
            group: (each["robust accuracy"].value, each[f"success at {name(SHIFTED)}"].value)
            for group, each in shown.items()
        }
        return self.finding(
            lines(shown, lambda group, each: ours({"group": group}, each)),
            self.checks(groups, n),
            "Accuracy under attack on the test set, and attack success rate within alpha·eps at "
            f"({name(SHIFTED)}): {listed(summaries, '{0[0]:.1%} and {0[1]:.1%}', '; ')}.",
            f"Attack: {context.attack or ATTACK}, on the same {n} test images for all networks. "
            "Success is the share of correctly classified images with an adversarial image within "
            f"alpha·eps. A group has up to {max(map(len, self.trainings.values()))} networks.",
            "The paper has no such table.",
            rule=RULE,
            numbers={"n": n},
            summary=lines(shown, self._summary),
            figures=[bars("rates", caption, series, "share of images"), self._responses(context)],
        )

    @abstractmethod
    def checks(self, groups: dict[str, Group], n: int) -> Iterator[Check]:
        """Compare the groups, each on `n` images."""

    def facts(self, run: Run) -> dict[str, float]:
        """Return other measurements of a network."""
        return {}

    def _responses(self, context: Context) -> Drawing:
        """Draw the response of the first layer against the background level."""
        rows: list[Row] = []
        for group, names in self.trainings.items():
            modules = [context.model(model).module for model in names]
            usable = (m for m in modules if set(map(type, m.modules())) >= RECTIFIED)
            each = [response(module) for module in usable]
            for level, values in zip(LEVELS, np.stack(each).T, strict=True) if each else ():
                cell = {"group": group, "level": round(float(level), 3)}
                rows.append(cell | cells(response=mean(values)))
        caption = (
            f"How much perturbations of size {REACH:g} can change the output of the first layer on "
            f"a uniform background, as a share of that at level {LEVELS[-1]:g}. With a threshold "
            "above that size, a network hardly responds on black"
        )
        labels = ("background level", "response")
        return curve("response", caption, rows, ("level", "response", "group"), labels)

    def _group(self, context: Context, models: tuple[str, ...]) -> Group:
        runs = [context.sample(model, IMAGES) for model in models]
        by_place = {place: [attacked(context, run, place) for run in runs] for place in PLACES}
        correct, fooled = (
            {place: np.stack([p[i] for p in pairs]) for place, pairs in by_place.items()}
            for i in (0, 1)
        )
        facts = pl.DataFrame([self.facts(run) for run in runs])
        return Group(correct, fooled, {f: facts[f].to_numpy() for f in facts.columns}, context.seed)

    def _summary(self, group: str, each: dict[str, Interval]) -> Row:
        plan = recipe_of(self.trainings[group][0])
        line: Row = {"model": group, "recipe": plan.recipe, "arch": plan.arch}
        line |= {"threat": plan.threat}
        return line | cells(**{column(measure): value for measure, value in each.items()})


def column(measure: str) -> str:
    """Return the name of a measure as a column."""
    return measure.replace(", ", "_").replace(" ", "_")


def attacked(context: Context, run: Run, place: Place) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each image is classified correctly and, if so, fooled within alpha·eps."""
    threat, size = run.claim.threat, place[0] * run.claim.threat.eps
    attack = Settings(context.attack or ATTACK).make_attack(threat, until=size)
    what = f"  {run.claim.model.name} at {name(place)}"
    records = run.attack(attack, contrast_shift(*place), what)
    return rec.is_correct(records), rec.fallen(records, size, threat.norm)


class Scarcity(GroupComparison):
    """Robustness and blind spots against the number of training images."""

    title = "Robustness and blind spots against the number of training images"
    source = "Zhang et al. 2019, section 4.3, the cause that the paper names"
    trainings = {f"{k},000 images": tuple(f"mnist-{k}k-{seed}" for seed in SEEDS) for k in FEW}

    def checks(self, groups: dict[str, Group], n: int) -> Iterator[Check]:
        fewest, *_, most = groups
        pairs = [(fewest, most), *pairwise(groups)]
        for few, many in pairs:
            where, pair = f"{many} above {few}", (groups[many].robust(), groups[few].robust())
            yield larger("more training images: a more robust network", where, *pair, n)
        for place in PLACES[1:3]:
            claim = f"more training images: less success at ({name(place)})"
            for few, many in pairs:
                pair = (groups[few].success(place), groups[many].success(place))
                yield larger(claim, f"{many} below {few}", *pair, n)

    def facts(self, run: Run) -> dict[str, float]:
        claim = run.claim
        divergence = Divergence(points=POINTS).finding(claim, run, Settings(ATTACK)).numbers

        def compute() -> pl.DataFrame:
            train, test = claim.data.train, claim.data.test
            assert train is not None
            distances = {
                layer or "features": nearest_distance(
                    run.features(train, layer),
                    run.features(test, layer, run.indices),
                    unit=layer is None,
                )
                for layer in (None, PIXELS)
            }
            return pl.DataFrame(distances)

        distance = run.table("distance to what was seen", {}, compute)
        return {
            "distance in features of unit length": float(distance["features"].to_numpy().mean()),
            "distance in pixels": float(distance[PIXELS].to_numpy().mean()),
            "K-L divergence": divergence["kl"],
            "K-L divergence within the training set": divergence["kl_null"],
        }


class Threshold(GroupComparison):
    """The threshold above eps in the first layer, and trainings that may remove it."""

    title = "First-layer thresholds, and trainings that may remove the blind spot"
    source = "Zhang et al. 2019, section 4.4, the cause that this project suspects"
    trainings = {
        "as it is": tuple(f"mnist-60k-{seed}" for seed in SEEDS),
        **{
            f"with {change}": tuple(f"mnist-60k-{change}-{seed}" for seed in SEEDS[:1])
            for change in ("scale-shift", "invert")
        },
    }

    def checks(self, groups: dict[str, Group], n: int) -> Iterator[Check]:
        base, *changed = groups
        for group in changed:
            pair = (groups[base].success() / 2, groups[group].success())
            yield larger("the training halves the success at the shift", group, *pair, n)


def response(module: nn.Module, eps: float = REACH) -> np.ndarray:
    """Return how much the first layer responds to perturbations, by background level, (levels,).

    It is the largest change of a unit's rectified output over all perturbations of a uniform
    patch, inside [0, 1], summed over units, as a share of that at the last level.

    Args:
        module: a network whose first convolution is followed by a rectifier.
        eps: L-inf size of the perturbations.
    """
    layer = next(each for each in module.modules() if isinstance(each, nn.Conv2d))
    weight = layer.weight.detach().flatten(1).double().cpu()
    bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach().double().cpu()
    raised, lowered = weight.clamp(min=0).sum(1), weight.clamp(max=0).sum(1)
    levels = torch.from_numpy(LEVELS)[:, None]
    low, high = (levels - eps).clamp(min=0), (levels + eps).clamp(max=1)
    top = (high * raised + low * lowered + bias).clamp(min=0)
    bottom = (low * raised + high * lowered + bias).clamp(min=0)
    changes = (top - bottom).sum(1).numpy()
    return changes / changes[-1]


class Shift(GroupComparison):
    """Success after a contrast shift by eps of training, recipe and architecture."""

    title = "Contrast shifts by eps of training, recipe and architecture"
    source = "Zhang et al. 2019, Table 2, for other networks"
    trainings = {
        model: (model,)
        for model in (
            *(f"mnist-small-pgd-0{tenths}" for tenths in (1, 2, 3)),
            "mnist-small-pgd-cutout",
            "mnist-small-igd",
            "mnist-pgd",
            "mnist-wong",
            "mnist-wrm",
        )
    }

    def checks(self, groups: dict[str, Group], n: int) -> Iterator[Check]:
        for model, each in groups.items():
            pair = (each.success(), each.success(BASE))
            yield larger("the shift raises the attack success rate", model, *pair, n)
