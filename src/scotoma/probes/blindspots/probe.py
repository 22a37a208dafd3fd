"""Do harmless changes of contrast and background void it?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from scotoma.claim import Claim, Threat
from scotoma.execution import records as rec
from scotoma.execution.run import Attack, Run
from scotoma.probes.base import Probe, Settings, columns, percent, sized
from scotoma.probes.blindspots.grid import contrast_shifts
from scotoma.results.finding import Bars, Finding, Gallery, Verdict
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.stats import Rate, rate

HARMLESS = 0.01
BROKEN = 0.5
RULE = (
    f"a move is harmless if it costs at most {HARMLESS:.0%} of accuracy; broken if the 95% interval of success at alpha·eps lies "
    f"above {BROKEN:.0%} under some harmless move and not on the test set itself, weak if the interval of success at eps under "
    "some harmless move lies above the one on the test set itself, else holds; not applicable if the claim is broken on the "
    "test set itself"
)
SHOWN = 6


@dataclass(frozen=True)
class Cell:
    """One (alpha, beta) of the grid, attacked."""

    alpha: float
    beta: float
    attack: Attack
    records: pl.DataFrame
    accuracy: Rate
    success: Rate
    """at eps"""
    scaled: Rate
    """at alpha·eps"""

    @property
    def transform(self) -> ScaleShift | None:
        return move(self.alpha, self.beta)


class BlindSpots(Probe):
    """The blind-spot attack of Zhang et al. 2019, section 3.3: Table 2 for any model."""

    question = "Do harmless changes of contrast and background void it?"

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Finding:
        cells, grid = [], contrast_shifts(claim.data.name)
        with run.progress.bar("blind spots", len(grid)) as advance:
            for alpha, beta in grid:
                cells.append(self._attack(claim, run, settings, alpha, beta))
                advance(1)
        base, moved = cells[0], cells[1:]
        harmless = [cell for cell in moved if self._is_harmless(cell, base)]
        worst = max(
            harmless, key=lambda cell: (cell.scaled.value, cell.success.value), default=base
        )
        chosen = self._chosen(worst, claim.threat)
        return Finding(
            probe="blindspots",
            question=self.question,
            verdict=self._verdict(base, harmless),
            rule=RULE,
            headline=self._headline(base, worst),
            numbers={
                "worst_alpha": worst.alpha,
                "worst_beta": worst.beta,
                **columns("worst_accuracy", worst.accuracy),
                **columns("worst_success_eps", worst.success),
                **columns("worst_success_alpha_eps", worst.scaled),
                **columns("base_accuracy", base.accuracy),
                **columns("base_success_eps", base.success),
            },
            tables={"grid": [self._row(cell) for cell in cells]},
            figures=(
                Bars(
                    "grid",
                    "Accuracy and success of the attack after x' = alpha x + beta on [-0.5, 0.5], with 95% intervals. Success at "
                    "alpha·eps is the fair comparison: it shrinks the budget with the contrast.",
                    table="grid",
                    label="move",
                    series={
                        "accuracy": ("accuracy", "accuracy_low", "accuracy_high"),
                        "success at eps": ("success_eps", "success_eps_low", "success_eps_high"),
                        "success at alpha·eps": (
                            "success_alpha_eps",
                            "success_alpha_eps_low",
                            "success_alpha_eps_high",
                        ),
                    },
                    y_label="rate",
                ),
                *([self._gallery(worst, chosen, claim.threat.norm)] if len(chosen) else []),
            ),
            notes=(
                f"Attack: {settings.attack}, stopped for an image as soon as its perturbation is below alpha·eps (on the test set "
                "itself it finds each image's smallest). Success rates are over the images that are classified correctly after "
                "the move.",
            ),
            images={"worst": self._images(run, worst, chosen)} if len(chosen) else {},
        )

    @staticmethod
    def _attack(claim: Claim, run: Run, settings: Settings, alpha: float, beta: float) -> Cell:
        eps, transform = claim.threat.eps, move(alpha, beta)
        attack = settings.make_attack(claim.threat, until=alpha * eps if transform else 0.0)
        records = run.attack(attack, transform, what=f"  alpha {alpha:g}, beta {beta:g}")
        accuracy = rate((records["prediction"] == records["label"]).to_numpy())
        success, scaled = (
            rate(rec.successes(records, size, claim.threat.norm)) for size in (eps, alpha * eps)
        )
        return Cell(alpha, beta, attack, records, accuracy, success, scaled)

    @staticmethod
    def _is_harmless(cell: Cell, base: Cell) -> bool:
        slack = 1e-9  # 0.96 - 0.01 is more than 0.95 in binary
        return cell.success.n > 0 and cell.accuracy.value >= base.accuracy.value - HARMLESS - slack

    @staticmethod
    def _row(cell: Cell) -> dict:
        return {
            "move": f"{cell.alpha:g}, {cell.beta:g}",
            "alpha": cell.alpha,
            "beta": cell.beta,
            "n": cell.accuracy.n,
            **columns("accuracy", cell.accuracy),
            "attacked": cell.success.n,
            **columns("success_eps", cell.success),
            **columns("success_alpha_eps", cell.scaled),
        }

    @staticmethod
    def _verdict(base: Cell, harmless: list[Cell]) -> Verdict:
        if base.success.n == 0 or base.success.low > BROKEN:
            return "not applicable"
        if any(cell.scaled.low > BROKEN for cell in harmless):
            return "broken"
        return "weak" if any(cell.success.low > base.success.high for cell in harmless) else "holds"

    @staticmethod
    def _headline(base: Cell, worst: Cell) -> str:
        if base.success.n == 0:
            return "The model classifies none of the audited images correctly, so there is nothing to attack."
        if worst is base:
            return f"No move on the grid is harmless: each costs over {HARMLESS:.0%} of accuracy."
        return (
            f"At alpha {worst.alpha:g}, beta {worst.beta:g} accuracy is {worst.accuracy.value:.1%} and the attack succeeds on "
            f"{percent(worst.success)} within eps, on {worst.scaled.value:.1%} within alpha·eps; on the test set itself on "
            f"{base.success.value:.1%}."
        )

    @staticmethod
    def _chosen(worst: Cell, threat: Threat) -> pl.DataFrame:
        """A few images that fall at alpha·eps under the worst move (at eps where none does), one a class first."""
        for size in (worst.alpha * threat.eps, threat.eps):
            fallen = worst.records.filter(rec.fallen(worst.records, size, threat.norm))
            if len(fallen):
                first = fallen.sort("index").with_columns(nth=pl.int_range(pl.len()).over("label"))
                return first.sort("nth", "label", "index").head(SHOWN)
        return worst.records.head(0)

    @staticmethod
    def _images(run: Run, worst: Cell, chosen: pl.DataFrame) -> np.ndarray:
        return np.stack(
            run.examples(worst.attack, worst.transform, chosen["index"].to_list()), axis=1
        )

    @staticmethod
    def _gallery(worst: Cell, chosen: pl.DataFrame, norm: str) -> Gallery:
        return Gallery(
            "worst",
            f"The test image, the same after the move (alpha {worst.alpha:g}, beta {worst.beta:g}), which the model still "
            "classifies correctly, and the adversarial image near it.",
            images="worst",
            columns=["original", "moved", "adversarial"],
            captions=[
                [
                    f"{row['label']}",
                    "still right",
                    f"taken for {row['adversarial_prediction']}, {sized(row, norm)}",
                ]
                for row in chosen.iter_rows(named=True)
            ],
        )


def move(alpha: float, beta: float) -> ScaleShift | None:
    """The transform of a cell; None for the test set itself, whose attack other probes share."""
    return None if (alpha, beta) == (1.0, 0.0) else ScaleShift(alpha, beta)
