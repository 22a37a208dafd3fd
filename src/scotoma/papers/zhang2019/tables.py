"""Table 1: divergence of the test set and attack success. Tables 2 and 3: the blind-spot attack."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import Any

import numpy as np

from scotoma.execution import records as rec
from scotoma.papers.checks import APART, Check, Interval, apart, more_errors, within
from scotoma.papers.figures import Drawing, bars
from scotoma.papers.item import Context, Item, cells, lines, listed, number, row
from scotoma.papers.zhang2019 import attacked, how, published, settings
from scotoma.papers.zhang2019.published import Cell
from scotoma.probes.blindspots.transformed import contrast_shift
from scotoma.probes.divergence.probe import Divergence
from scotoma.results.finding import Finding, Row
from scotoma.utils.stats import Rate, rate, ratio
from scotoma.utils.text import scalar

DIVERGENCE = "K-L divergence"
BEYOND = {
    "K-L divergence at equal sizes": "kl_matched",
    "K-L divergence within the training set": "kl_null",
    "k-NN K-L divergence": "knn_kl",
    "k-NN K-L divergence at equal sizes": "knn_kl_matched",
    "k-NN K-L divergence within the training set": "knn_kl_null",
    "AUC of a classifier": "auc",
    "AUC of a classifier within the training set": "auc_null",
}
"""Measures that the paper does not have, with their names in the divergence probe's numbers."""


class Table1(Item):
    """K-L divergence of the test set, attack success and accuracy on three data sets."""

    title = "Table 1: divergence of the test set, attack success and accuracy"
    source = "Zhang et al. 2019, section 4.3, Table 1"
    models = ("fashion-pgd", "mnist-pgd", "cifar-robust")

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        models = {context.data(model).name: model for model in self.models}
        results = context.each(self.title, models, lambda model: self._measure(context, model))
        checks, texts, series = [], [], {}
        for measure in (DIVERGENCE, "success"):
            values = {data: each[measure] for data, each in results.items()}
            for low, high in pairwise(values):
                claim = f"{measure} is larger on {high} than on {low}"
                checks.append(apart(claim, values[low][0], values[high][0]))
            texts.append({d: f"{scalar(our.value)} ({its})" for d, (our, its) in values.items()})
        for measure in ("success", "accuracy"):
            series |= {f"{measure}, ours": measure, f"{measure}, paper": f"published_{measure}"}
        caption = "Attack success rate at eps and accuracy, ours and the paper's"
        return self.finding(
            lines(
                results, lambda data, each: [row({"data": data}, m, *v) for m, v in each.items()]
            ),
            checks,
            f"Ours (published): K-L divergence {listed(texts[0], '{}')}; attack success rate "
            f"{listed(texts[1], '{}')}.",
            how(context),
            "The divergence is measured on all training and test images, in the features of the "
            "robust model, and averaged over classes. Its value within the training set, between "
            "parts of equal sizes, is what sampling alone gives.",
            rule=APART,
            tables={"data": lines(results, self._wide)},
            figures=[bars("rates", caption, series, "rate", label="data", table="data")],
        )

    @staticmethod
    def _measure(context: Context, model: str) -> dict[str, tuple[Interval, float | None]]:
        """Return our numbers and the paper's, by measure."""
        run = context.run(model)
        claim, n = run.claim, len(run.claim.data.test)
        divergence, success, accuracy = published.TABLE1[context.data(model).name]
        numbers = Divergence(points=None).finding(claim, run, settings(context)).numbers
        _, records = attacked(context, run, model)
        fooled = rec.successes(records, claim.threat.eps, claim.threat.norm)
        return {
            DIVERGENCE: (number(numbers, "kl", n), divergence),
            "success": (rate(fooled), success),
            "accuracy": (rate(rec.is_correct(run.predictions())), accuracy),
            **{measure: (number(numbers, key, n), None) for measure, key in BEYOND.items()},
        }

    @staticmethod
    def _wide(data: str, each: dict[str, tuple[Any, Any]]) -> Row:
        rates = beside("success", *each["success"]) | beside("accuracy", *each["accuracy"])
        return {"data": data} | rates


AXES = {"success_eps": "success at eps", "success_alpha_eps": "success at alpha·eps"}


@dataclass(frozen=True)
class GridCell:
    """A cell of ours beside the paper's.

    Args:
        paper: the paper's cell.
        eps: the size of the perturbations.
        correct: bool (n,), whether each transformed test image is classified correctly.
        success: attack success rate at eps, on images that are classified correctly.
        scaled: attack success rate at alpha·eps.
    """

    paper: Cell
    eps: float
    correct: np.ndarray
    success: Rate
    scaled: Rate

    @property
    def accuracy(self) -> Rate:
        return rate(self.correct)

    @property
    def label(self) -> str:
        return f"{self.paper.alpha:g}, {self.paper.beta:g}"


class Grid(Item):
    """A table of accuracy and attack success over (alpha, beta)."""

    cells: tuple[Cell, ...]

    @abstractmethod
    def checks(self, cells: list[GridCell]) -> Iterator[Check]:
        """Return the paper's claims besides the order of the cells."""

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        each = dict(enumerate(self.cells))
        cells = [*context.each(self.title, each, lambda c: self._attack(context, c)).values()]
        data = context.data(self.models[0]).name
        first, last = cells[0], max(cells, key=lambda cell: cell.paper.success)
        return self.finding(
            [line for cell in cells for line in self._rows(cell, data)],
            [*self.checks(cells), *order(cells)],
            f"The attack success rate at eps rises from {percent(first.success)} on the test set "
            f"itself to {percent(last.success)} at (alpha, beta) = ({last.label}); in the paper, "
            f"from {percent(first.paper.success)} to {percent(last.paper.success)}. Accuracy is at "
            f"least {percent(min(cell.accuracy.value for cell in cells))} in every cell.",
            how(context),
            "Accuracy is over all test images after x' = alpha x + beta on [-0.5, 0.5]. After a "
            "transform, the attack stops for an image once its perturbation is below alpha·eps.",
            "Two cells are compared if their published rates differ beyond their intervals "
            "(n = 2,000).",
            rule=f"the interval lies on the side of the bound that the claim names, or {APART}",
            numbers={"attacked": min(cell.success.n for cell in cells)},
            tables={"grid": [self._wide(cell) for cell in cells]},
            figures=[self._bars(*axis) for axis in AXES.items()],
        )

    def _attack(self, context: Context, cell: Cell) -> GridCell:
        run, transform = context.run(self.models[0]), contrast_shift(cell.alpha, cell.beta)
        eps, scaled = run.claim.threat.eps, cell.alpha * run.claim.threat.eps
        what = f"alpha {cell.alpha:g}, beta {cell.beta:g}"
        _, records = attacked(context, run, what, transform, scaled if transform else 0.0)
        rates = (rate(rec.successes(records, size, "linf")) for size in (eps, scaled))
        return GridCell(cell, eps, rec.is_correct(run.predictions(transform)), *rates)

    @staticmethod
    def _rows(cell: GridCell, data: str) -> list[Row]:
        paper, keys = cell.paper, {"data": data, "alpha": cell.paper.alpha, "beta": cell.paper.beta}
        rows = [
            row(keys | {"threshold": None}, "accuracy", cell.accuracy, paper.accuracy),
            row(keys | {"threshold": cell.eps}, "success", cell.success, paper.success),
        ]
        if paper.scaled is not None:
            keys |= {"threshold": round(paper.alpha * cell.eps, 6)}
            rows.append(row(keys, "success", cell.scaled, paper.scaled))
        return rows

    @staticmethod
    def _wide(cell: GridCell) -> Row:
        paper = cell.paper
        return {
            "contrast_shift": cell.label,
            **beside("accuracy", cell.accuracy, paper.accuracy),
            **beside("success_eps", cell.success, paper.success),
            **beside("success_alpha_eps", cell.scaled, paper.scaled or paper.success),
        }

    @staticmethod
    def _bars(name: str, label: str) -> Drawing:
        caption = "Ours and the paper's (n = 2,000), by (alpha, beta)"
        series = {"ours": name, "paper": f"published_{name}"}
        return bars(name, caption, series, label, label="contrast_shift", table="grid")


class Table2(Grid):
    """Accuracy and attack success on scaled and shifted MNIST."""

    title = "Table 2: scaled and shifted MNIST"
    source = "Zhang et al. 2019, section 4.4, Table 2"
    models = ("mnist-pgd",)
    cells = published.TABLE2

    def checks(self, cells: list[GridCell]) -> Iterator[Check]:
        for cell in cells:
            yield within("accuracy is at least 97.5%", cell.label, cell.accuracy, 0.975)
        for cell in cells:
            if cell.paper.alpha <= 0.8 or cell.label == "0.9, 0.05":
                bound = 0.99 if cell.label == "0.7, 0.15" else 0.85
                claim = f"the attack success rate at eps is above {bound:.0%}"
                yield within(claim, cell.label, cell.success, bound)


class Table3(Grid):
    """Accuracy and attack success on scaled and shifted Fashion-MNIST."""

    title = "Table 3: scaled and shifted Fashion-MNIST"
    source = "Zhang et al. 2019, section 4.4, Table 3"
    models = ("fashion-pgd",)
    cells = published.TABLE3

    def checks(self, cells: list[GridCell]) -> Iterator[Check]:
        base, *shifted = cells
        for cell in shifted:
            pair = ("transformed", cell.correct), ("test set", base.correct)
            claim = "accuracy falls by at most one point"
            yield more_errors(claim, cell.label, *pair, slack=0.01)
        claim = "the attack success rate at eps is at least five times that on the test set itself"
        last = cells[-1]
        yield within(claim, last.label, ratio(last.success, base.success), 5)


def percent(value: float | Rate) -> str:
    """Return a rate in percent with the paper's four digits."""
    return f"{100 * (value.value if isinstance(value, Rate) else value):.4g}%"


def beside(name: str, ours: Interval, paper: Any) -> Row:
    """Return a rate of ours and the paper's, with their intervals, as columns."""
    return cells(**{name: ours, f"published_{name}": printed_rate(paper)})


def printed_rate(value: float, n: int = published.IMAGES) -> Rate:
    """Return a rate that the paper prints, with the interval of its n images."""
    return rate(np.arange(n) < round(value * n))


def order(cells: list[GridCell]) -> Iterator[Check]:
    """Compare cells whose published rates have intervals that are apart."""
    for field, size in {"success": "eps", "scaled": "alpha·eps"}.items():
        column = [
            (cell.label, printed_rate(paper), getattr(cell, field))
            for cell in cells
            if (paper := getattr(cell.paper, field)) is not None
        ]
        claim = f"success at {size} has the published order"
        for (low, paper_low, ours_low), (high, paper_high, ours_high) in permutations(column, 2):
            if paper_low.high < paper_high.low:
                yield apart(claim, ours_low, ours_high, f"({low}) below ({high})")
