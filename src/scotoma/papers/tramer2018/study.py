"""Natural, single-step and ensemble training of networks, under white-box and black-box attacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from scotoma.papers.checks import APART, Check, apart, decided, in_order, more_errors, within
from scotoma.papers.figures import bars
from scotoma.papers.item import Context, Item, cells, lines, row
from scotoma.papers.tramer2018 import published
from scotoma.papers.tramer2018.errors import FGSM_SUITE, Errors, Suite, measure, white_box
from scotoma.reference import recipe_of
from scotoma.results.finding import Finding, Row
from scotoma.utils.stats import Estimate, Rate, paired_difference, rate

ENSEMBLE = "ensemble"
"""Beginning of the names of ensemble trainings."""
MOST = 0.5
"""Attack success rate above which a model is not robust to an attack."""

Trained = dict[tuple[str, str], Errors]
"""Errors by network and training."""


def more_than(claim: str, errors: Errors, attacks: tuple[str, ...], share: float) -> Check:
    """Check that white-box attacks break more than a share of the images."""
    wrong = rate(errors.white_box(attacks))
    difference = Estimate(wrong.value - share, wrong.low - share, wrong.high - share, wrong.n)
    sides = (" or ".join(attacks), wrong.value), ("bound", share)
    return decided(claim, {"model": errors.model, "source": None}, *sides, difference)


class Study(Item):
    """Networks, each trained in several ways, and the paper's claims on these."""

    suite: Suite
    recipe: str
    """Recipe that trains on the suite's single step."""
    networks: dict[str, dict[str, str]]
    """Reference models by network and training: `recipe`, on which the claims are, those that begin
    with `ENSEMBLE`, and any others."""
    held_out: tuple[str, ...]
    """Reference models to make examples on; no ensemble was trained with one of them."""
    members: tuple[str, ...]
    """Reference models that an ensemble was trained with."""
    printed: Mapping[str, Mapping[str, float]] = {}
    """The paper's numbers for the counterpart of a model: its "clean error" and "black-box error",
    and white-box errors by attack."""

    @property
    def models(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(dict.fromkeys((*self.trained.values(), *self.held_out, *self.members)))

    @property
    def trained(self) -> dict[tuple[str, str], str]:
        """Reference models by network and training."""
        return {
            (net, training): name
            for net, trainings in self.networks.items()
            for training, name in trainings.items()
        }

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        sources = (self.suite, self.held_out, self.members)
        models = context.each(
            self.title, self.trained, lambda model: measure(context, model, *sources)
        )
        n, suite = len(next(iter(models.values())).clean), self.suite
        caption = (
            "Errors under one step on the model itself, under the worst example made on a held-out "
            f"model (black-box) and under {' or '.join(suite.iterated)} (iterated)"
        )
        series = {
            f"own {suite.single}": "own_single_step",
            suite.random: "random_step",
            "black-box": "black_box",
            "iterated": "iterated",
        }
        return self.finding(
            lines(models, self._rows) + self.further(context),
            self.checks(models),
            self._headline(models),
            how(context, n),
            *self._notes(context),
            numbers={"n": n},
            summary=lines(models, self._summary),
            tables={"matrix": lines(models, _matrix)},
            figures=[bars("errors", caption, series, "error")],
        )

    def further(self, context: Context) -> list[Row]:
        """Return rows on other tables of the paper."""
        return []

    def checks(self, models: Trained) -> list[Check]:
        """Return the paper's claims, each over all networks."""
        checks: list[Check] = []
        for (network, training), stepped in models.items():
            if training == self.recipe:
                checks += self.of_network(stepped, _ensembles(models, network))
        return in_order(checks)

    def of_network(self, stepped: Errors, ensembles: list[Errors]) -> Iterator[Check]:
        """Check the paper's claims on one network; `stepped` is trained on the single step."""
        single, random, training = self.suite.single, self.suite.random, f"{self.recipe} training"
        where, own_errors = {"model": stepped.model, "source": None}, (single, stepped.own[single])
        claim = f"{training}: {random} finds more errors than {single}"
        yield more_errors(claim, where, (random, stepped.own[random]), own_errors)
        claim = f"{training}: {single} of an undefended model finds more errors than its own"
        for source in stepped.held_out:
            if recipe_of(source).recipe == "natural":
                source_errors = (f"{single} of the source", stepped.transferred[source, single])
                yield more_errors(claim, where | {"source": source}, source_errors, own_errors)
        claim = f"ensemble training: fewer black-box errors than after {training}"
        for ensemble in ensembles:
            for source in ensemble.held_out:
                a, b = ((each.model, each.black_box([source])) for each in (stepped, ensemble))
                yield more_errors(claim, {"model": ensemble.model, "source": source}, a, b)
        claim = (
            f"ensemble training: iterated white-box attacks break more than {MOST:.0%} of images"
        )
        yield from (more_than(claim, each, self.suite.iterated, MOST) for each in ensembles)

    def _rows(self, key: tuple[str, str], errors: Errors) -> list[Row]:
        base = {"network": key[0], "training": key[1], "source": None, "attack": None}
        published_values, rows = self.printed.get(errors.model, {}), []

        def add(measure: str, wrong: np.ndarray, printed: str = "", **where: str) -> None:
            rows.append(row(base | where, measure, rate(wrong), published_values.get(printed)))

        add("clean error", errors.clean, "clean error")
        for attack, wrong in errors.own.items():
            add("white-box error", wrong, attack, attack=attack)
        add("white-box error", errors.white_box(), attack="worst")
        black_box, held_out = "black-box error", {"source": "held out"}
        for source in errors.held_out:
            add(black_box, errors.black_box([source]), source=source, attack="worst")
        if errors.held_out:
            add(black_box, errors.largest_transfer(), black_box, attack="strongest one", **held_out)
            add(black_box, errors.black_box(), attack="worst", **held_out)
        return rows

    def _summary(self, key: tuple[str, str], errors: Errors) -> Row:
        single, undefined = self.suite.single, rate(np.empty(0, bool))
        step, black = (errors.black_box(attack=attack) for attack in (single, None))
        return cells(
            model=", ".join(key),
            clean=rate(errors.clean),
            own_single_step=rate(errors.own[single]),
            random_step=rate(errors.own[self.suite.random]),
            transferred_single_step=rate(step) if errors.held_out else undefined,
            black_box=rate(black) if errors.held_out else undefined,
            iterated=rate(errors.white_box(self.suite.iterated)),
            n=len(errors.clean),
        )

    def _headline(self, models: Trained) -> str:
        single, random = self.suite.single, self.suite.random
        stepped = [each for (_, training), each in models.items() if training == self.recipe]
        ensembles = _ensembles(models)
        return (
            f"After {self.recipe} training the error is "
            f"{_span(each.own[single] for each in stepped)} under {single}, "
            f"{_span(each.own[random] for each in stepped)} under {random} and "
            f"{_span(each.black_box() for each in stepped)} under examples made on held-out "
            f"models; after ensemble training it is {_span(e.black_box() for e in ensembles)} "
            "under these. Iterated white-box attacks break "
            f"{_span(each.white_box(self.suite.iterated) for each in ensembles)} of images after "
            "ensemble training: no white-box robustness."
        )

    def _notes(self, context: Context) -> tuple[str, ...]:
        names = [*self.suite.white_box, *([context.attack] if context.attack else [])]
        return (
            f"White-box: {', '.join(names)}. Black-box: {', '.join(self.suite.black_box)}, each "
            f"made on {', '.join(self.held_out)} once for all models. The worst of several attacks "
            "is taken image by image; the strongest one, the paper's measure, is the source and "
            "attack with the most errors. Black-box errors exclude sources of the model's own "
            "architecture and those that ensemble training learned from "
            f"({', '.join(self.members)}).",
        )


def how(context: Context, n: int) -> str:
    """Return a sentence on the images."""
    return (
        f"{n:,} test images drawn at random (seed {context.seed}), the same for every model. As in "
        "the paper, errors are over all of them: an image that a model misclassifies without an "
        "attack is an error under every attack."
    )


def _ensembles(models: Trained, only: str | None = None) -> list[Errors]:
    """Return the errors after ensemble training, of one network or of all."""
    ensembles = {key: each for key, each in models.items() if key[1].startswith(ENSEMBLE)}
    return [each for (network, _), each in ensembles.items() if only in (None, network)]


def _matrix(_: tuple[str, str], errors: Errors) -> list[Row]:
    """Return the errors of every source and attack, as in the paper's transfer tables."""
    return [
        cells(model=errors.model, source=source, source_is=errors.roles[source], attack=attack)
        | cells(error=rate(wrong), n=len(wrong))
        for (source, attack), wrong in errors.transferred.items()
    ]


def _span(errors: Iterator[np.ndarray]) -> str:
    """Return the range of some error rates, for a sentence."""
    rates = sorted(float(wrong.mean()) for wrong in errors)
    return " to ".join(dict.fromkeys((f"{rates[0]:.1%}", f"{rates[-1]:.1%}")))


TRAININGS = {"natural": "", "fgsm": "-fgsm", "ensemble, 12 epochs": "-ensemble12"}
"""Trainings, with the end of the reference model's name."""
AS_LONG = {"ensemble, 6 epochs": "-ensemble6"}
"""Ensemble training no longer than FGSM training, on the small networks: a control of ours."""


class Mnist(Study):
    """White-box and black-box errors of models A to D on MNIST after three trainings."""

    title = "Models A to D on MNIST: errors after natural, FGSM and ensemble training"
    source = "Tramer et al. 2018, appendix on MNIST"
    suite = FGSM_SUITE
    recipe = "fgsm"
    networks = {
        letter.upper(): {training: f"tramer-{letter}{end}" for training, end in ways.items()}
        for letter in "abcd"
        for ways in [TRAININGS | (AS_LONG if letter in "bd" else {})]
    }
    held_out = ("tramer-b", "mnist-natural", "mnist-pgd")
    members = ("tramer-a", "tramer-c", "tramer-d")

    def _notes(self, context: Context) -> tuple[str, ...]:
        return (
            *super()._notes(context),
            "The numbers of the paper's MNIST tables are unknown to us. Among the sources only "
            "mnist-pgd is defended, so the claim about undefended ones does not use it.",
        )


TRAINED_ON, ITERATED = "R+FGSM", "PGD-20"
PRINTED = {
    TRAINED_ON: f"above {published.RAND_FGSM_ACCURACY:.0%}",
    ITERATED: f"{published.RAND_FGSM_PGD_ACCURACY:.1%}",
}


class RandFGSMTraining(Item):
    """Accuracy under R+FGSM and under PGD-20 of model A on MNIST after R+FGSM training."""

    title = "Model A on MNIST after R+FGSM training: R+FGSM against PGD-20"
    source = "Tramer et al. 2018, R+FGSM training on MNIST"
    models = ("tramer-a-rand-fgsm",)

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        (model,) = self.models
        clean, own = white_box(context, model, FGSM_SUITE.white_box)
        rates = {attack: rate(~wrong) for attack, wrong in {"none": clean, **own}.items()}
        epochs, n = recipe_of(model).schedule.epochs, len(clean)
        table = [cells(attack=attack, accuracy=ours, n=n) for attack, ours in rates.items()]
        caption, series = f"Accuracy of {model} under attacks on itself", {"accuracy": "accuracy"}
        return self.finding(
            lines(rates, self._row),
            self.checks(rates),
            f"After {epochs} epochs of {TRAINED_ON} training, accuracy is "
            f"{rates[TRAINED_ON].value:.1%} under {TRAINED_ON} and {rates[ITERATED].value:.1%} "
            f"under {ITERATED}; in the paper, after {published.RAND_FGSM_EPOCHS} epochs, "
            f"{PRINTED[TRAINED_ON]} and {PRINTED[ITERATED]}.",
            how(context, n),
            rule=f"the interval lies above the bound, or {APART}",
            numbers=cells(n=n, difference=paired_difference(own[ITERATED], own[TRAINED_ON])),
            figures=[bars("accuracy", caption, series, "accuracy", table, "attack")],
        )

    @staticmethod
    def checks(rates: dict[str, Rate]) -> list[Check]:
        """Return the paper's claims."""
        trained, iterated, bound = rates[TRAINED_ON], rates[ITERATED], published.RAND_FGSM_ACCURACY
        half = Estimate(trained.value / 2, trained.low / 2, trained.high / 2, trained.n)
        return [
            within(f"accuracy under {TRAINED_ON} is above {bound:.0%}", {}, trained, bound),
            apart(f"accuracy under {ITERATED} is less than half of that", iterated, half),
        ]

    @staticmethod
    def _row(attack: str, ours: Rate) -> Row:
        printed = published.RAND_FGSM_PGD_ACCURACY if attack == ITERATED else None
        return row({"attack": attack, "paper": PRINTED.get(attack)}, "accuracy", ours, printed)
