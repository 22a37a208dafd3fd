"""The paper's comparison on any data: natural, single-step and ensemble training of one network, white-box and black-box."""

from __future__ import annotations

import numpy as np

from scotoma.papers.item import SUMMARY, Context, agreement, row
from scotoma.papers.tramer2018 import claims, how
from scotoma.papers.tramer2018.checks import RULE, Check
from scotoma.papers.tramer2018.errors import Errors, measure
from scotoma.papers.tramer2018.suites import Suite
from scotoma.probes.base import columns
from scotoma.results.finding import Bars, Finding, Row
from scotoma.utils.stats import rate

ENSEMBLE = "ensemble"
"""How the names of ensemble trainings begin."""

Found = dict[str, dict[str, Errors]]
"""By network and training."""


class Study:
    """Networks, each trained in several ways, and what the paper claims of the ways."""

    title: str
    source: str
    suite: Suite
    recipe: str
    """That trains on the suite's single step."""
    networks: dict[str, dict[str, str]]
    """The reference model of a network and a training: `recipe`, which the claims are about, those that begin with `ENSEMBLE`, and
    any others."""
    held_out: tuple[str, ...]
    """Reference models to make examples on, none of which an ensemble was trained with."""
    seen: tuple[str, ...]
    """Those that one was."""

    @property
    def models(self) -> tuple[str, ...]:
        every = [model for trainings in self.networks.values() for model in trainings.values()]
        return tuple(dict.fromkeys((*every, *self.held_out, *self.seen)))

    def published(self, model: str, measured: str) -> float | None:
        """The paper's figure for its counterpart of a model: "clean error", "black-box error" or a white-box attack's name."""
        return None

    def measure(self, context: Context, name: str) -> tuple[list[Row], Finding]:
        found = self._errors(context)
        every = [
            (network, training, met)
            for network, of_it in found.items()
            for training, met in of_it.items()
        ]
        rows = [each for named in every for each in self._rows(*named)]
        checks = self.checks(found)
        n, held = len(every[0][2].clean), sum(check.holds for check in checks)
        inside, published = (*agreement(rows).values(), 0, 0)[:2]
        compared = {"published": published, "published_inside": inside} if published else {}
        return rows, Finding(
            probe=name,
            question=self.title,
            verdict="reproduced" if held == len(checks) else "differs",
            rule=f"reproduced if every line of the table of checks holds: {RULE}; else differs",
            headline=self._headline(found, checks),
            numbers={"checks": len(checks), "checks_held": held, "n": n, **compared},
            tables={
                SUMMARY: [self._summary(*named) for named in every],
                "checks": [check.row for check in checks],
                "matrix": [each for _, _, met in every for each in _matrix(met)],
            },
            figures=(self._bars(),),
            notes=(how(context, n), *self._notes(context)),
        )

    def checks(self, found: Found) -> list[Check]:
        """The paper's claims, each over all networks."""
        made = [
            check
            for trainings in found.values()
            if self.recipe in trainings
            for check in claims.of_network(
                self.suite, self.recipe, trainings[self.recipe], _ensembles({"": trainings})
            )
        ]
        order = list(dict.fromkeys(check.claim for check in made))
        return sorted(made, key=lambda check: order.index(check.claim))

    def _errors(self, context: Context) -> Found:
        found: Found = {}
        with context.progress.bar(self.title, sum(map(len, self.networks.values()))) as advance:
            for network, trainings in self.networks.items():
                found[network] = {}
                for training, model in trainings.items():
                    met = measure(
                        context,
                        model,
                        self.suite.white_box,
                        self.suite.black_box,
                        self.held_out,
                        self.seen,
                    )
                    found[network][training] = met
                    advance(1)
        return found

    def _rows(self, network: str, training: str, met: Errors) -> list[Row]:
        def line(
            measured: str, wrong: np.ndarray, published: float | None = None, **where: str
        ) -> Row:
            keys = {"network": network, "training": training, "source": None, "attack": None}
            return row(keys | where, measured, rate(wrong), published)

        rows = [line("clean error", met.clean, self.published(met.model, "clean error"))]
        for attack, wrong in met.own.items():
            rows.append(
                line("white-box error", wrong, self.published(met.model, attack), attack=attack)
            )
        rows.append(line("white-box error", met.white_box(), attack="worst"))
        for source in met.held_out:
            rows.append(
                line("black-box error", met.black_box([source]), source=source, attack="worst")
            )
        if met.held_out:
            most = self.published(met.model, "black-box error")
            rows.append(
                line(
                    "black-box error",
                    met.largest_transfer(),
                    most,
                    source="held out",
                    attack="strongest one",
                )
            )
            rows.append(line("black-box error", met.black_box(), source="held out", attack="worst"))
        return rows

    def _summary(self, network: str, training: str, met: Errors) -> Row:
        """A model in a line."""
        single = self.suite.single
        transferred = [met.transferred[source, single] for source in met.held_out]
        measured = {
            "clean": met.clean,
            "own_single_step": met.own[single],
            "random_step": met.own[self.suite.random],
            "transferred_single_step": np.logical_or.reduce([met.clean, *transferred])
            if transferred
            else None,
            "black_box": met.black_box() if transferred else None,
            "iterated": met.white_box(self.suite.iterated),
        }
        line: Row = {"model": f"{network}, {training}"}
        for name, wrong in measured.items():
            line |= columns(name, rate(np.empty(0, bool) if wrong is None else wrong))
        return line | {"n": len(met.clean)}

    def _bars(self) -> Bars:
        single, random, iterated = (
            self.suite.single,
            self.suite.random,
            " or ".join(self.suite.iterated),
        )
        series = {
            f"own {single}": "own_single_step",
            random: "random_step",
            "black-box": "black_box",
            "iterated": "iterated",
        }
        return Bars(
            "errors",
            f"Errors under {single} and {random} on the model itself, under the worst example made on a held-out model (black-box) "
            f"and under {iterated} on the model itself (iterated), with 95% intervals.",
            table="summary",
            label="model",
            series={
                name: (column, f"{column}_low", f"{column}_high") for name, column in series.items()
            },
            y_label="error",
        )

    def _headline(self, found: Found, checks: list[Check]) -> str:
        single, random = self.suite.single, self.suite.random
        stepped = [
            trainings[self.recipe] for trainings in found.values() if self.recipe in trainings
        ]
        ensembles = _ensembles(found)
        after = {
            "single": [met.own[single] for met in stepped],
            "random": [met.own[random] for met in stepped],
        }
        after |= {
            "black": [met.black_box() for met in stepped],
            "ensemble": [met.black_box() for met in ensembles],
        }
        falls = [met.white_box(self.suite.iterated) for met in ensembles]
        return (
            f"After {self.recipe} training the error is {_span(after['single'])} under {single}, {_span(after['random'])} under "
            f"{random} and {_span(after['black'])} under examples made on held-out models; after ensemble training it is "
            f"{_span(after['ensemble'])} under these. Iterated white-box attacks break {_span(falls)} of images after ensemble "
            f"training: it is no white-box robustness. {sum(check.holds for check in checks)} of {len(checks)} comparisons are as "
            f"the paper claims{_failing(checks)}."
        )

    def _notes(self, context: Context) -> tuple[str, ...]:
        own = [*self.suite.white_box, *([context.attack] if context.attack else [])]
        return (
            f"White-box: {', '.join(own)}. Black-box: {', '.join(self.suite.black_box)}, each made on {', '.join(self.held_out)} "
            "once for all models. The worst of several attacks is taken image by image; the strongest one is the source and attack "
            "with the most errors, which is the paper's measure.",
            "No black-box error is from a source of the model's own architecture, or from one that ensemble training learned from "
            f"({', '.join(self.seen)}): these stand in the matrix alone, named so.",
        )


def _ensembles(found: Found) -> list[Errors]:
    return [
        met
        for of_it in found.values()
        for training, met in of_it.items()
        if training.startswith(ENSEMBLE)
    ]


def _failing(checks: list[Check]) -> str:
    """The claims that do not hold, and of which models, as the end of a sentence."""
    failing: dict[str, dict[str, None]] = {}
    for check in checks:
        if not check.holds:
            failing.setdefault(check.claim, {})[check.model] = None
    said = "; ".join(f"{claim} ({', '.join(models)})" for claim, models in failing.items())
    return said and f"; not so, or not beyond noise: {said}"


def _matrix(met: Errors) -> list[Row]:
    """Every source and attack, as the paper's transfer tables."""
    return [
        {
            "model": met.model,
            "source": source,
            "source_is": met.roles[source],
            "attack": attack,
            **columns("error", rate(wrong)),
            "n": len(wrong),
        }
        for (source, attack), wrong in met.transferred.items()
    ]


def _span(errors: list[np.ndarray]) -> str:
    """The range of some rates, in a sentence."""
    rates = sorted(float(wrong.mean()) for wrong in errors)
    first, last = f"{rates[0]:.1%}", f"{rates[-1]:.1%}"
    return first if first == last else f"{first} to {last}"
