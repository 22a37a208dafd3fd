"""Tables 2 and 3: the blind-spot attack, cell by cell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from scotoma.execution import records as rec
from scotoma.papers.item import Context, agreement, row
from scotoma.papers.zhang2019 import how, images, published, settings
from scotoma.papers.zhang2019.published import Cell
from scotoma.probes.base import columns
from scotoma.probes.blindspots.probe import move
from scotoma.results.finding import Bars, Finding, Row
from scotoma.utils.stats import Rate, rate

COLUMNS = {"accuracy": "accuracy", "success": "success_eps", "scaled": "success_alpha_eps"}
"""What a cell holds, by what the report calls it."""


@dataclass(frozen=True)
class Attacked:
    """A cell of ours beside the paper's."""

    paper: Cell
    eps: float
    accuracy: Rate
    """on all test images after the move"""
    success: Rate
    """at eps, on those classified correctly"""
    scaled: Rate
    """at alpha eps"""

    @property
    def label(self) -> str:
        return f"{self.paper.alpha:g}, {self.paper.beta:g}"


class Grid(ABC):
    """A table of accuracy and success over (alpha, beta)."""

    title: str
    source: str
    models: tuple[str, ...]
    cells: tuple[Cell, ...]
    expected: str
    """What has to hold beside the order, as the rule says it."""

    @abstractmethod
    def missing(self, cells: list[Attacked]) -> list[str]:
        """What of `expected` does not hold."""

    def measure(self, context: Context, name: str) -> tuple[list[Row], Finding]:
        cells = self._attack(context)
        rows = [
            each for cell in cells for each in self._rows(cell, context.data(self.models[0]).name)
        ]
        problems = [*self.missing(cells), *disorder(cells)]
        inside, of = agreement(rows)
        first, last = cells[0], max(cells, key=lambda cell: cell.paper.success)
        return rows, Finding(
            probe=name,
            question=self.title,
            verdict="differs" if problems else "reproduced",
            rule=(
                f"reproduced if {self.expected}, and no two cells whose published rates differ beyond their intervals (n = 2,000) "
                "stand in the other order here, at eps or at alpha·eps; else differs"
            ),
            headline=(
                f"Success within eps rises from {percent(first.success.value)} on the test set itself to "
                f"{percent(last.success.value)} at (alpha, beta) = ({last.label}), in the paper from "
                f"{percent(first.paper.success)} to {percent(last.paper.success)}. Accuracy is "
                f"{percent(min(cell.accuracy.value for cell in cells))} or more in every cell. {inside} of {of} published figures "
                "lie in our intervals."
            ),
            numbers={
                "published_inside": inside,
                "published": of,
                "attacked": min(cell.success.n for cell in cells),
            },
            tables={
                "grid": [self._wide(cell) for cell in cells],
                "what_differs": [{"difference": text} for text in problems],
            },
            figures=(
                self._bars("success_eps", "success at eps"),
                self._bars("success_alpha_eps", "success at alpha·eps"),
            ),
            notes=(
                how(context),
                "Accuracy is over all test images after x' = alpha x + beta on [-0.5, 0.5]. After a move the attack leaves an "
                "image as soon as its perturbation is below alpha·eps.",
            ),
        )

    def _attack(self, context: Context) -> list[Attacked]:
        run, asked = context.run(self.models[0]), settings(context)
        eps, cells = run.claim.threat.eps, []
        with context.progress.bar(self.title, len(self.cells)) as advance:
            for cell in self.cells:
                transform = move(cell.alpha, cell.beta)
                told = run.predictions(transform)
                attack = asked.make_attack(
                    run.claim.threat, until=cell.alpha * eps if transform else 0.0
                )
                what = f"  alpha {cell.alpha:g}, beta {cell.beta:g}"
                records = run.subset(run.correct_indices(images(context), transform)).attack(
                    attack, transform, what
                )
                accuracy = rate((told["prediction"] == told["label"]).to_numpy())
                success, scaled = (
                    rate(rec.successes(records, size, "linf")) for size in (eps, cell.alpha * eps)
                )
                cells.append(Attacked(cell, eps, accuracy, success, scaled))
                advance(1)
        return cells

    @staticmethod
    def _rows(cell: Attacked, data: str) -> list[Row]:
        keys = {"data": data, "alpha": cell.paper.alpha, "beta": cell.paper.beta}
        rows = [
            row(keys | {"threshold": None}, "accuracy", cell.accuracy, cell.paper.accuracy),
            row(keys | {"threshold": cell.eps}, "success", cell.success, cell.paper.success),
        ]
        if cell.paper.scaled is not None:
            threshold = round(cell.paper.alpha * cell.eps, 6)
            rows.append(
                row(keys | {"threshold": threshold}, "success", cell.scaled, cell.paper.scaled)
            )
        return rows

    @staticmethod
    def _wide(cell: Attacked) -> Row:
        row = {"move": cell.label}
        for name, column in COLUMNS.items():
            printed = getattr(cell.paper, name)
            row |= columns(column, getattr(cell, name))
            row |= columns(
                f"published_{column}",
                printed_rate(cell.paper.success if printed is None else printed),
            )
        return row

    @staticmethod
    def _bars(name: str, label: str) -> Bars:
        return Bars(
            name,
            f"{label[0].upper()}{label[1:]}, ours beside the paper's, by (alpha, beta), with 95% intervals (the paper's from its n "
            "= 2,000).",
            table="grid",
            label="move",
            series={
                who: (column, f"{column}_low", f"{column}_high")
                for who, column in (("ours", name), ("paper", f"published_{name}"))
            },
            y_label=label,
        )


class Table2(Grid):
    """Accuracy and attack success on scaled and shifted MNIST."""

    title = "Table 2: scaled and shifted MNIST"
    source = "Zhang et al. 2019, section 4.4, Table 2"
    models = ("mnist-pgd",)
    cells = published.TABLE2
    expected = (
        "accuracy is at least 97.5% in every cell, success at eps is above 85% at (0.9, 0.05) and at every alpha up to 0.8, and "
        "above 99% at (0.7, 0.15)"
    )

    def missing(self, cells: list[Attacked]) -> list[str]:
        wanted = [("accuracy", cell, cell.accuracy.value, 0.975) for cell in cells]
        for cell in cells:
            alpha, beta = cell.paper.alpha, cell.paper.beta
            if alpha <= 0.8 or (alpha, beta) == (0.9, 0.05):
                wanted.append(
                    (
                        "success",
                        cell,
                        cell.success.value,
                        0.99 if (alpha, beta) == (0.7, 0.15) else 0.85,
                    )
                )
        return [
            f"{what} at ({cell.label}) is {value:.1%}, not {least:.1%}"
            for what, cell, value, least in wanted
            if value < least
        ]


class Table3(Grid):
    """Accuracy and attack success on scaled and shifted Fashion-MNIST."""

    title = "Table 3: scaled and shifted Fashion-MNIST"
    source = "Zhang et al. 2019, section 4.4, Table 3"
    models = ("fashion-pgd",)
    cells = published.TABLE3
    expected = (
        "no move costs more than one point of accuracy, and success at eps is at (0.9, 0.05) at least five times that on the test "
        "set itself"
    )

    def missing(self, cells: list[Attacked]) -> list[str]:
        first, last = cells[0], cells[-1]
        found = [
            f"accuracy falls from {first.accuracy.value:.1%} to {cell.accuracy.value:.1%} at ({cell.label})"
            for cell in cells
            if cell.accuracy.value < first.accuracy.value - 0.01
        ]
        if last.success.value < 5 * first.success.value:
            found.append(
                f"success rises from {first.success.value:.1%} to {last.success.value:.1%} only"
            )
        return found


def percent(value: float) -> str:
    """A rate in percent with the paper's four digits."""
    return f"{100 * value:.4g}%"


def printed_rate(value: float, n: int = published.IMAGES) -> Rate:
    """A rate that the paper prints, with the interval of its n images."""
    return rate(np.arange(n) < round(value * n))


def disorder(cells: list[Attacked]) -> list[str]:
    """Pairs of cells in the other order than published, where the published intervals do not overlap."""
    found = []
    for name in ("success", "scaled"):
        column = [(cell, getattr(cell.paper, name), getattr(cell, name).value) for cell in cells]
        column = [
            (cell, printed_rate(paper), ours) for cell, paper, ours in column if paper is not None
        ]
        for low, paper_low, ours_low in column:
            for high, paper_high, ours_high in column:
                if paper_low.high < paper_high.low and ours_low > ours_high:
                    what = "eps" if name == "success" else "alpha·eps"
                    found.append(
                        f"success at {what} is higher at ({low.label}) than at ({high.label}), in the paper lower"
                    )
    return found
