"""Table 3: other methods of attribution. The appendix: training that may lower the inequality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np

from scotoma.attribution import ATTRIBUTIONS
from scotoma.attribution.colour import COLOURS
from scotoma.attribution.noise import TYPES
from scotoma.papers.checks import RULE, Check, in_order, larger, more_errors
from scotoma.papers.duan2023 import claims, published
from scotoma.papers.duan2023.examination import ATTACK, Measurements, Models, measure, robust_images
from scotoma.papers.duan2023.study import COMPARED, how, noised, summary
from scotoma.papers.figures import bars
from scotoma.papers.item import Comparison, Context, cells, flat, lines, listed, ours, row
from scotoma.reference import recipe_of
from scotoma.results.finding import Finding, Row
from scotoma.threat import Threat
from scotoma.utils.stats import mean, rate

IMAGES = 250
"""The paper has 1,000, but SmoothGrad makes a thousand forward and backward passes an image."""
NATURAL, PLAIN = "natural", "PGD"
"""Names of two trainings."""
ENDS = {NATURAL: "natural", PLAIN: "pgd-03", "Cutout": "pgd-cutout", "IGD": "igd"}
"""Ends of the reference models' names, by training."""
KEYS = ("type", "colour", "order")
SLACK = 0.02
"""Robust accuracy that a remedy may cost."""


def errors(keys: Row, each: Measurements, settings: Iterable[int]) -> list[Row]:
    """Return a model's errors under noise on the middle count and under settings of occlusion."""
    rows = []
    for order in COMPARED:
        cell = keys | {"order": order}
        measure_name = f"error under noise on {each.middle} values"
        rows += [row(cell | {"type": k}, measure_name, rate(each.noise(k, order))) for k in TYPES]
        for number, colour in product(settings, COLOURS):
            measure_name = f"error under {claims.squares(*each.settings[number])}"
            error = rate(each.occlusion(number, colour, order))
            rows.append(row(cell | {"colour": colour}, measure_name, error))
    return rows


class Attributions(Comparison):
    """Gini coefficients and errors of two models by four methods of attribution."""

    title = "Four methods of attribution, on MNIST"
    source = "Duan et al. 2023, Table 3, on other data"
    trainings = {"natural": "mnist-small-natural", "0.3": "mnist-small-pgd-03"}
    """Reference models by the size trained for: natural training and the largest size."""

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        methods = {method: method for method in ATTRIBUTIONS}
        results: dict[str, Models] = context.each(
            self.title, methods, lambda method: measure(context, self.trainings, method, IMAGES)
        )
        pairs = flat(results)
        ginis = {m: [mean(e.gini()).value for e in group.values()] for m, group in results.items()}
        orders = {"most important": "noise", "random": "random"}
        series = {f"type {k}, {o}": f"{orders[o]}_{k}" for k, o in product(TYPES, orders)}
        by_method = "global Gini coefficient of absolute values, by method and model"
        by_order = "Error under Gaussian noise on the most important and on random values"
        return self.finding(
            lines(pairs, self._rows),
            self.checks(results),
            "Mean global Gini coefficient after natural training and after training at the largest "
            f"size: {listed(ginis, '{0[0]:.2f} and {0[1]:.2f}')}.",
            *how(context, results["integrated-gradients"]),
            "The area under deletion is the mean probability of the true class while pixels are "
            "removed, most important first. SmoothGrad squares maps, which raises the Gini "
            "coefficient of any model. The paper's numbers are of ResNet-50 on ImageNet.",
            numbers={"n": len(next(iter(pairs.values())))},
            summary=[
                cells(
                    model=", ".join(at),
                    gini=mean(each.gini()),
                    **noised(each),
                    **{colour: rate(each.occlusion(0, colour)) for colour in COLOURS},
                    n=len(each),
                )
                for at, each in pairs.items()
            ],
            tables={
                "deletion": [
                    cells(
                        model=", ".join(at),
                        **{f"area_{order}": mean(each.deletion(order)) for order in COMPARED},
                        n=len(each),
                    )
                    for at, each in pairs.items()
                ],
                "published": [
                    {"method": method, "trained_for": eps, **line._asdict()}
                    for method, pair in published.TABLE3.items()
                    for eps, line in zip(("natural", "adversarial"), pair, strict=True)
                ],
            },
            figures=(
                bars("gini", f"Mean {by_method}", {"Gini coefficient": "gini"}, "Gini coefficient"),
                bars("noise", by_order, series, "error"),
            ),
        )

    @staticmethod
    def checks(results: dict[str, Models]) -> list[Check]:
        """Return the claims that Table 3 is about for each method, which `where` begins with."""
        checks: list[Check] = []
        for method, models in results.items():
            (first, natural), (last, robust) = models.items()
            where = f"{method}: {first}, {last}"
            checks.append(claims.unequal(models, first, last, where=where))
            checks += claims.guided(robust, f"{method}: {last}")
            checks += claims.gap(natural, robust, where)
        return in_order(checks)

    @staticmethod
    def _rows(at: tuple[str, str], each: Measurements) -> list[Row]:
        keys = {"method": at[0], "trained for": at[1], **dict.fromkeys(KEYS)}
        rows = [row(keys, "global Gini", mean(each.gini())), *errors(keys, each, [0])]
        return rows + [
            row(keys | {"order": order}, "area under deletion", mean(each.deletion(order)))
            for order in COMPARED
        ]


class Remedies(Comparison):
    """Inequality, errors and robust accuracy after Cutout and distillation, and after plain PGD."""

    title = "Cutout and input gradient distillation beside plain PGD training"
    source = "Duan et al. 2023, appendix on Cutout; Dong et al. 2023 (arXiv 2305.09305)"
    trainings = {
        data: {name: f"{prefix}-{end}" for name, end in ENDS.items()}
        for data, prefix in {"digits": "digits", "MNIST": "mnist-small"}.items()
    }
    """Reference models by data and training, all but natural training at one size."""

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        results: dict[str, Models] = self.each(context, measure)
        pairs, threats = flat(results), {data: _threat(models) for data, models in results.items()}
        robust = {at: robust_images(context, m.model, threats[at[0]]) for at, m in pairs.items()}
        summaries = {
            ", ".join(at): (mean(m.gini()).value, m.noise("II").mean(), robust[at].mean())
            for at, m in pairs.items()
            if at[1] != NATURAL
        }
        caption = "Robust accuracy, Gini coefficient, and errors at the most important places"
        series = {
            "robust accuracy": "robust_accuracy",
            "global Gini": "gini",
            "noise I, important": "noise_I",
            "noise II, important": "noise_II",
            "black squares, important": "squares",
        }
        return self.finding(
            [
                line
                for at, each in pairs.items()
                for line in _rows(at, each, f"at {threats[at[0]].eps:g}", robust[at])
            ],
            [check for data, group in results.items() for check in of_trained(data, group, robust)],
            "Gini coefficient, error under noise of type II, robust accuracy: "
            f"{listed(summaries, '{0[0]:.2f}, {0[1]:.1%}, {0[2]:.1%}', '; ')}.",
            *how(context, results["digits"]),
            f"Robust accuracy is over all test images drawn, under {context.attack or ATTACK} at "
            "the size that the models were trained for; all else is over images that all models "
            "of the data classify correctly. The means of channels are those of the digits.",
            "The paper says that Cutout lowers the Gini coefficient slightly, and Dong et al. that "
            "distillation lowers errors under inductive noise and occlusion.",
            rule=f"{RULE}, or for robust accuracy above -{SLACK:.0%}",
            numbers={f"n_{data}": len(models[PLAIN]) for data, models in results.items()},
            summary=[
                cells(model=", ".join(at), robust_accuracy=rate(robust[at])) | summary(each)
                for at, each in pairs.items()
            ],
            figures=[bars("remedies", caption, series, "accuracy, Gini coefficient or error")],
        )


def _threat(models: Models) -> Threat:
    """Return what plain training was for."""
    return Threat.parse(recipe_of(models[PLAIN].model).threat)


def of_trained(
    data: str, models: Models, robust: dict[tuple[str, str], np.ndarray]
) -> Iterator[Check]:
    """Check that each remedy lowers inequality and errors, and what it costs."""
    plain = models[PLAIN]
    last = len(plain.settings) - 1
    for name, each in models.items():
        if name in (NATURAL, PLAIN):
            continue
        claim = f"{name} lowers the global Gini coefficient"
        yield larger(claim, data, (PLAIN, plain.gini()), (name, each.gini()))
        for kind in TYPES:
            where, values = f"{data}, type {kind}", f"{plain.middle} most important values"
            claim = f"{name} lowers the error under noise on the {values}"
            yield more_errors(claim, where, (PLAIN, plain.noise(kind)), (name, each.noise(kind)))
            claim = f"{name} lowers what importance adds to the error under noise"
            sides = claims.added(PLAIN, plain, kind), claims.added(name, each, kind)
            yield larger(claim, where, *sides, most=2.0)
        cover = f"{claims.squares(*plain.settings[last])} over important places"
        for colour in COLOURS:
            sides = (PLAIN, plain.occlusion(last, colour)), (name, each.occlusion(last, colour))
            claim = f"{name} lowers the error under {cover}"
            yield more_errors(claim, f"{data}, {colour}", *sides)
        claim = f"{name} costs no more than {SLACK:.0%} of robust accuracy"
        sides = ((f"{kind}, robust accuracy", robust[data, kind]) for kind in (name, PLAIN))
        yield more_errors(claim, data, *sides, slack=SLACK)


def _rows(at: tuple[str, str], each: Measurements, size: str, robust: np.ndarray) -> list[Row]:
    keys = {"data": at[0], "training": at[1], **dict.fromkeys(KEYS)}
    measures = {
        "clean accuracy, all test images": each.accuracy,
        f"robust accuracy {size}": rate(robust),
        "global Gini": mean(each.gini()),
        "regional Gini, net": mean(each.gini("regional", "net")),
    }
    return ours(keys, measures) + errors(keys, each, range(len(each.settings)))
