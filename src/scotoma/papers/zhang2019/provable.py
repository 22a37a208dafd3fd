"""Blind spots of the provable defences, which the published version adds."""

from __future__ import annotations

from dataclasses import replace

from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled
from scotoma.papers.item import Context, number, row
from scotoma.papers.zhang2019 import images, settings
from scotoma.probes.blindspots.probe import HARMLESS, BlindSpots
from scotoma.probes.certificates.distributional import Distributional
from scotoma.probes.certificates.probe import Certificate
from scotoma.results.finding import Bars, Curve, Figure, Finding, Gallery, Row

MEASURES = {
    "certified accuracy": ("certified_accuracy_eps", "certified_accuracy_alpha_eps", "n"),
    "success": ("success_eps", "success_alpha_eps", "attacked"),
}
"""Columns of the probes' grids at eps and at alpha eps, and that of n."""

LOSSES = {
    "mean loss": "loss",
    "mean loss, bound": "bound",
    "mean loss attacked": "attacked_loss",
    "mean loss attacked, bound": "attacked_bound",
}
"""Columns of the distributional probe's grid."""


class Provable:
    """Certified accuracy and attack success of the provable defences, on scaled and shifted images."""

    title = "The provable defences: certified accuracy and attack success"
    source = "Zhang et al. 2019, published version, abstract"
    models = ("mnist-wong", "fashion-wong", "mnist-wrm", "fashion-wrm")

    def measure(self, context: Context, name: str) -> tuple[list[Row], Finding]:
        rows, tables, parts, blind = [], {}, [], []
        figures, shown = [], {}
        with context.progress.bar(self.title, len(self.models)) as advance:
            for model in self.models:
                found = self._ask(context, model)
                grid = found.tables["grid"]
                rows += [each for cell in grid for each in self._rows(context, model, cell)]
                tables[model] = grid
                for figure in found.figures:
                    figures.append(self._named(figure, model))
                    shown |= (
                        {model: found.images[figure.images]} if isinstance(figure, Gallery) else {}
                    )
                shifted = self._shifted(context, model)
                rows += [
                    each
                    for cell in shifted.tables.get("grid", [])
                    for each in self._losses(context, model, cell)
                ]
                tables |= {
                    f"{model}-{table}": shifted.tables[table]
                    for table in ("grid", "curve")
                    if table in shifted.tables
                }
                figures += [
                    self._named(figure, f"{model}-curve")
                    for figure in shifted.figures
                    if isinstance(figure, Curve)
                ]
                worst = self._worst(grid)
                blind.append(
                    worst["success_alpha_eps_low"] > grid[0]["success_eps_high"] if worst else False
                )
                parts.append(self._sentence(model, grid[0], worst))
                advance(1)
        return rows, Finding(
            probe=name,
            question=self.title,
            verdict="reproduced" if all(blind) else "differs",
            rule=(
                f"reproduced if for every model some move that costs at most {HARMLESS:.0%} of accuracy lifts success at alpha·eps "
                "above the interval of success on the test set itself; else differs"
            ),
            headline=" ".join(parts),
            tables=tables,
            figures=tuple(figures),
            notes=(
                f"Attack: {settings(context).attack}, on {images(context):,} test images drawn at random. Rates of success are "
                "over those that the model classifies correctly, all others over all of them.",
                "Published figures are unknown to us: ours stand alone.",
                "Certified accuracy is that of the dual bound, at eps and at alpha·eps. The networks of Sinha et al. have ELUs, "
                "which it does not know. Their own certificate bounds the mean loss at a distance from the training data, not the "
                "label of an image: here beside the mean loss of the moved images, and of the same attacked at the same price.",
            ),
            images=shown,
        )

    @staticmethod
    def _ask(context: Context, model: str) -> Finding:
        """The certificate probe's finding; the blindspots probe's where there is no bound."""
        run, asked = drawn(context, model), settings(context)
        found = Certificate().measure(run.claim, run, asked)
        return found if found.tables else BlindSpots().measure(run.claim, run, asked)

    @staticmethod
    def _shifted(context: Context, model: str) -> Finding:
        """The distributional probe's finding, without tables where the certificate of Sinha et al. does not apply."""
        run = drawn(context, model)
        return Distributional().measure(run.claim, run, settings(context))

    @staticmethod
    def _keys(context: Context, model: str, cell: Row) -> Row:
        place = {"alpha": cell["alpha"], "beta": cell["beta"], "threshold": None}
        return {"data": context.data(model).name, "model": model, **place}

    @classmethod
    def _losses(cls, context: Context, model: str, cell: Row) -> list[Row]:
        keys = cls._keys(context, model, cell)
        return [
            row(keys, measure, number(cell, column, cell["n"]))
            for measure, column in LOSSES.items()
        ]

    @classmethod
    def _rows(cls, context: Context, model: str, cell: Row) -> list[Row]:
        eps, keys = context.run(model).claim.threat.eps, cls._keys(context, model, cell)
        rows = [row(keys, "accuracy", number(cell, "accuracy", cell["n"]))]
        for measure, (full, scaled, n) in MEASURES.items():
            if full in cell:
                rows.append(row(keys | {"threshold": eps}, measure, number(cell, full, cell[n])))
                if cell["alpha"] != 1:
                    threshold = round(cell["alpha"] * eps, 6)
                    rows.append(
                        row(keys | {"threshold": threshold}, measure, number(cell, scaled, cell[n]))
                    )
        return rows

    @staticmethod
    def _worst(grid: list[Row]) -> Row | None:
        """The harmless move with the highest success at alpha eps."""
        base, *moved = grid
        harmless = [
            cell
            for cell in moved
            if cell["attacked"] and cell["accuracy"] >= base["accuracy"] - HARMLESS - 1e-9
        ]
        return (
            max(harmless, key=lambda cell: cell["success_alpha_eps"], default=None)
            if base["attacked"]
            else None
        )

    @staticmethod
    def _sentence(model: str, base: Row, worst: Row | None) -> str:
        def rates(cell: Row, end: str) -> str:
            certified = cell.get(f"certified_accuracy_{end}")
            return f"{cell[f'success_{end}']:.1%}" + (
                "" if certified is None else f" ({certified:.1%} certified)"
            )

        if worst is None:
            return f"{model}: no move on the grid is harmless."
        return (
            f"{model}: success of the attack rises from {rates(base, 'eps')} to {rates(worst, 'alpha_eps')} within alpha·eps at "
            f"({worst['move']})."
        )

    @staticmethod
    def _named(figure: Figure, model: str) -> Figure:
        """A probe's figure among those of other models."""
        caption = f"{model}. {figure.caption}"
        if isinstance(figure, Bars | Curve):
            return replace(figure, name=model, table=model, caption=caption)
        assert isinstance(figure, Gallery)
        return replace(figure, name=f"{model}-images", images=model, caption=caption)


def drawn(context: Context, model: str) -> Run:
    """A model's run on the images drawn at random."""
    run = context.run(model)
    return run.subset(shuffled(len(run.claim.data.test), run.seed)[: images(context)].sort().values)
