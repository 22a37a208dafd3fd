"""Blind spots of the provable defences, which the published version adds."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from scotoma.papers.checks import APART, Check, apart
from scotoma.papers.item import Context, Item, number, ours, row
from scotoma.papers.zhang2019 import images, settings
from scotoma.probes.blindspots.definition import HARMLESS
from scotoma.probes.blindspots.probe import BlindSpots
from scotoma.probes.blindspots.transformed import keeps_accuracy
from scotoma.probes.certificates.distributional import Distributional
from scotoma.probes.certificates.probe import Certificate
from scotoma.results.finding import Bars, Curve, Figure, Finding, Gallery, Row

MEASURES = {
    "certified accuracy": ("certified_accuracy_eps", "certified_accuracy_alpha_eps", "n"),
    "success": ("success_eps", "success_alpha_eps", "attacked"),
}
"""Columns of the probes' grids at eps, at alpha·eps, and of the number of images."""

LOSSES = {
    "mean loss": "loss",
    "mean loss, bound": "bound",
    "mean loss attacked": "attacked_loss",
    "mean loss attacked, bound": "attacked_bound",
}
"""Columns of the distributional probe's grid."""


class Provable(Item):
    """Certified accuracy and attack success on scaled images, for the provable defences."""

    title = "The provable defences: certified accuracy and attack success"
    source = "Zhang et al. 2019, published version, abstract"
    models = ("mnist-wong", "fashion-wong", "mnist-wrm", "fashion-wrm")

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        rows, checks, figures, headlines = [], [], [], []
        tables, arrays = {}, {}
        models = {model: model for model in self.models}
        findings = context.each(self.title, models, partial(self._probe, context))
        for model, (on_grid, mean_loss) in findings.items():
            grid, losses = on_grid.tables["grid"], mean_loss.tables.get("grid", [])
            rows += [each for cell in grid + losses for each in self._rows(context, model, cell)]
            tables |= {model: grid}
            tables |= {f"{model}-{table}": lines for table, lines in mean_loss.tables.items()}
            figures += [self._renamed(figure, model) for figure in on_grid.figures]
            curves = (figure for figure in mean_loss.figures if isinstance(figure, Curve))
            figures += [self._renamed(figure, f"{model}-curve") for figure in curves]
            if on_grid.images:
                (arrays[model],) = on_grid.images.values()
            checks.append(self._check(model, grid[0], self._worst(grid)))
            headlines.append(f"{model}: {on_grid.headline}")
        return self.finding(
            rows,
            checks,
            " ".join(headlines),
            f"Attack: {settings(context).attack}, on {images(context):,} test images drawn at "
            "random. Attack success rates are over those that the model classifies correctly, all "
            "other rates over all of them. The paper's numbers are unknown to us.",
            "Certified accuracy is that of the dual bound, which does not apply to the networks of "
            "Sinha et al.; their own certificate bounds the mean loss at a distance from the "
            "training data, shown beside the mean loss of the transformed images and of the same "
            "images attacked at the same cost.",
            rule=APART,
            tables=tables,
            figures=[(figure, None) for figure in figures],
            images=arrays,
        )

    @staticmethod
    def _probe(context: Context, model: str) -> tuple[Finding, Finding]:
        """Return two findings: of the certificate or blindspots probe, and of the distributional.

        The second has no tables if the certificate of Sinha et al. does not apply.
        """
        run, options = context.sample(model, images(context)), settings(context)
        certified = Certificate().finding(run.claim, run, options)
        on_grid = certified if certified.tables else BlindSpots().finding(run.claim, run, options)
        mean_loss = Distributional().finding(run.claim, run, options)
        tables = {
            name: mean_loss.tables[name] for name in ("grid", "curve") if name in mean_loss.tables
        }
        return on_grid, replace(mean_loss, tables=tables)

    @staticmethod
    def _rows(context: Context, model: str, cell: Row) -> list[Row]:
        """Return rows of a cell of the probe on images or of the distributional probe."""
        claim, n = context.run(model).claim, cell["n"]
        eps, shift = claim.threat.eps, {"alpha": cell["alpha"], "beta": cell["beta"]}
        keys = {"data": claim.data.name, "model": model, **shift, "threshold": None}
        if LOSSES["mean loss"] in cell:
            return ours(keys, {measure: number(cell, name, n) for measure, name in LOSSES.items()})
        rows = [row(keys, "accuracy", number(cell, "accuracy", n))]
        for measure, (full, scaled, over) in MEASURES.items():
            sizes = {eps: full} | ({} if cell["alpha"] == 1 else {cell["alpha"] * eps: scaled})
            for size, column in sizes.items() if full in cell and cell[over] else ():
                at = keys | {"threshold": eps if size == eps else round(size, 6)}
                rows.append(row(at, measure, number(cell, column, cell[over])))
        return rows

    @staticmethod
    def _worst(grid: list[Row]) -> Row | None:
        """Return the harmless transform with the highest attack success rate at alpha·eps."""
        base, *shifted = grid
        attacked = [cell for cell in shifted if base["attacked"] and cell["attacked"]]
        harmless = [c for c in attacked if keeps_accuracy(c["accuracy"], base["accuracy"])]
        return max(harmless, key=lambda cell: cell["success_alpha_eps"], default=None)

    @staticmethod
    def _check(model: str, base: Row, worst: Row | None) -> Check:
        claim = (
            f"some transform that costs at most {HARMLESS:.0%} of accuracy raises the attack "
            "success rate, at alpha·eps"
        )
        if worst is None:
            return Check(claim, {"where": model}, False)
        before = number(base, "success_eps", base["attacked"])
        after = number(worst, "success_alpha_eps", worst["attacked"])
        return apart(claim, before, after, model)

    @staticmethod
    def _renamed(figure: Figure, model: str) -> Figure:
        """Return a probe's figure under a name that other models' figures do not have."""
        caption = f"{model}. {figure.caption}"
        if isinstance(figure, Bars | Curve):
            return replace(figure, name=model, table=model, caption=caption)
        assert isinstance(figure, Gallery)
        return replace(figure, name=f"{model}-images", images=model, caption=caption)
