"""Table 3: whether what is found hangs on the method of attribution."""

from __future__ import annotations

from dataclasses import asdict

from scotoma.attribution import ATTRIBUTIONS
from scotoma.attribution.colour import COLOURS
from scotoma.attribution.noise import TYPES
from scotoma.papers.duan2023 import claims, published
from scotoma.papers.duan2023.checks import RULE, Check
from scotoma.papers.duan2023.measured import Found, Measured, measure
from scotoma.papers.duan2023.study import COMPARED, how
from scotoma.papers.item import SUMMARY, Context, row
from scotoma.probes.base import columns
from scotoma.results.finding import Bars, Finding, Row
from scotoma.utils.stats import mean, rate

IMAGES = 250
"""Of the paper's 1,000: SmoothGrad makes a thousand forward and backward passes an image."""


NOISED = {"most important": "noise", "random": "random"}


class Attributions:
    """Four methods of attribution on a natural and a robust model: Gini coefficient, and errors under noise and squares."""

    title = "Four methods of attribution, on MNIST"
    source = "Duan et al. 2023, Table 3, on other data"
    ways: dict[str, str] = {"natural": "mnist-small-natural", "0.3": "mnist-small-pgd-03"}
    """The reference models by the size trained for: natural training and the largest size."""

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.ways.values())

    def measure(self, context: Context, name: str) -> tuple[list[Row], Finding]:
        found: dict[str, Found] = {}
        with context.progress.bar(self.title, len(list(ATTRIBUTIONS))) as advance:
            for method in ATTRIBUTIONS:
                found[method] = measure(context, self.ways, method, IMAGES)
                advance(1)
        every = [
            (method, eps, each) for method, of_it in found.items() for eps, each in of_it.items()
        ]
        rows = [line for named in every for line in _rows(*named)]
        checks = self.checks(found)
        held = sum(check.holds for check in checks)
        return rows, Finding(
            probe=name,
            question=self.title,
            verdict="reproduced" if held == len(checks) else "differs",
            rule=f"reproduced if every line of the table of checks holds, for each method: {RULE}; else differs",
            headline=f"{_told(found)} {claims.outcome(checks)}",
            numbers={
                "n": len(every[0][2]),
                "checks": len(checks),
                "checks_held": held,
                "checks_contrary": sum(check.contrary for check in checks),
            },
            tables={
                SUMMARY: [_summary(*named) for named in every],
                "checks": [check.row for check in checks],
                "deletion": [_deletion(*named) for named in every],
                "published": _published(),
            },
            figures=(_ginis(), _errors()),
            notes=(
                *how(context, found["integrated-gradients"]),
                "Deletion is the mean probability of the true class while pixels are removed, most important first: a map that "
                "says what matters has a smaller area than the random order.",
                "SmoothGrad squares maps, so that its values have no sign and larger Gini coefficients for any model. The paper's "
                "figures are of ResNet-50 on ImageNet and stand in a table of their own.",
            ),
        )

    @staticmethod
    def checks(found: dict[str, Found]) -> list[Check]:
        """The claims of the sweep that Table 3 is about, for each method; `where` begins with it."""
        made = []
        for method, of_it in found.items():
            (first, natural), (last, robust) = of_it.items()
            where = f"{method}: {first}, {last}"
            made += [
                *claims.unequal(of_it, first, last, where=where),
                *claims.led(robust, f"{method}: {last}"),
            ]
            made += claims.gap(natural, robust, where)
        order = list(dict.fromkeys(check.claim for check in made))
        return sorted(made, key=lambda check: order.index(check.claim))


def _rows(method: str, eps: str, each: Measured) -> list[Row]:
    keys: Row = {"method": method, "trained for": eps, "type": None, "colour": None, "order": None}
    rows = [row(keys, "global Gini", mean(each.gini()))]
    for order in COMPARED:
        for kind in TYPES:
            which = {"type": kind, "order": order}
            rows.append(
                row(
                    keys | which,
                    f"error under noise on {each.middle} values",
                    rate(each.noise(kind, order)),
                )
            )
        for colour in COLOURS:
            errors = rate(each.occlusion(0, colour, order))
            rows.append(
                row(
                    keys | {"colour": colour, "order": order},
                    f"error under {claims.told(*each.settings[0])}",
                    errors,
                )
            )
        rows.append(
            row(
                keys | {"order": order},
                "area under deletion",
                mean(each.frame[f"deletion {order}"].to_numpy()),
            )
        )
    return rows


def _summary(method: str, eps: str, each: Measured) -> Row:
    line: Row = {"model": f"{method}, {eps}", **columns("gini", mean(each.gini()))}
    for kind in TYPES:
        for column, order in {f"noise_{kind}": "importance", f"random_{kind}": "random"}.items():
            line |= columns(column, rate(each.noise(kind, order)))
    for colour in COLOURS:
        line |= columns(colour, rate(each.occlusion(0, colour)))
    return line | {"n": len(each)}


def _deletion(method: str, eps: str, each: Measured) -> Row:
    areas = {
        order: columns(f"area_{order}", mean(each.frame[f"deletion {order}"].to_numpy()))
        for order in COMPARED
    }
    return {"model": f"{method}, {eps}", **areas["importance"], **areas["random"], "n": len(each)}


def _published() -> list[Row]:
    return [
        {"method": method, "trained_for": eps, **asdict(line)}
        for method, lines in published.TABLE3.items()
        for eps, line in zip(("natural", "adversarial"), lines, strict=True)
    ]


def _told(found: dict[str, Found]) -> str:
    told = []
    for method, of_it in found.items():
        natural, robust = (mean(each.gini()).value for each in of_it.values())
        told.append(f"{method} {natural:.2f} and {robust:.2f}")
    return f"Mean global Gini coefficient after natural training and after training at the largest size: {', '.join(told)}."


def _ginis() -> Bars:
    return Bars(
        "gini",
        "Mean global Gini coefficient of absolute values by method and model, with 95% intervals.",
        table=SUMMARY,
        label="model",
        series={"Gini coefficient": ("gini", "gini_low", "gini_high")},
        y_label="Gini coefficient",
    )


def _errors() -> Bars:
    series = {
        f"type {kind}, {name}": f"{column}_{kind}"
        for kind in TYPES
        for name, column in NOISED.items()
    }
    return Bars(
        "noise",
        "Error under Gaussian noise on the most important and on random values, by method and model, with 95% intervals.",
        table=SUMMARY,
        label="model",
        series={
            name: (column, f"{column}_low", f"{column}_high") for name, column in series.items()
        },
        y_label="error",
    )
