"""What may a shift of the data cost in the mean, and do harmless changes of contrast stay within that?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scotoma.certificates.wasserstein import GAMMA, is_smooth
from scotoma.claim import Claim
from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled
from scotoma.probes.base import Probe, Settings, columns
from scotoma.probes.blindspots.grid import contrast_shifts
from scotoma.probes.blindspots.probe import HARMLESS
from scotoma.probes.certificates.transport import Line, Shifted, beaten, curved_share, shift
from scotoma.results.finding import Curve, Finding, Row, Scatter, Verdict
from scotoma.utils.stats import finite, mean, rate

CURVED = 0.05
RULE = (
    "broken if images are found whose mean loss lies above the certificate at their distance by more than the 95% intervals, or if "
    f"a move beats the maximum found for more than {CURVED:.0%} of images; weak if the inner problem is not concave at more than "
    f"{CURVED:.0%} of images, or if at the distance of a move that costs at most {HARMLESS:.0%} of accuracy the certificate allows "
    "the loss of a guess; else holds; not applicable to networks that are not smooth, and without training images"
)
PRICES = (4.0, 2.0, 0.5)
"""Multiples of gamma at which the test set is attacked, besides gamma itself."""
POINTS = 30


@dataclass(frozen=True)
class Held:
    """The certificate and what it is held against."""

    line: Line
    trained: Shifted
    base: Shifted
    """the test set itself, as `attacked` at gamma"""
    attacked: Sequence[Shifted]
    moved: Sequence[Shifted]
    curved: float
    guess: float

    @property
    def farthest(self) -> Shifted:
        """The harmless move that shifts the images most; the test set itself where none is harmless."""
        harmless = [found for found in self.moved if found.is_harmless(self.base)]
        return max(
            harmless, key=lambda found: found.mean("moved_distance").value, default=self.base
        )

    @property
    def reach(self) -> float:
        return self.farthest.mean("moved_distance").value

    @property
    def beaten(self) -> int:
        return beaten(self.base, self.moved, self.line.gamma)

    @property
    def crossings(self) -> int:
        return self.line.crossings([*self.attacked, *self.moved])

    @property
    def verdict(self) -> Verdict:
        if self.crossings or self.beaten > CURVED * len(self.base.frame):
            return "broken"
        return "weak" if self.curved > CURVED or self.line.at(self.reach) >= self.guess else "holds"


class Distributional(Probe):
    """The certificate of Sinha et al. (2018) from the training images, beside the loss of test images, moved and attacked."""

    question = "What may a shift of the data cost in the mean, and do harmless changes of contrast stay within that?"

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Finding:
        train, test = claim.data.train, claim.data.test
        if train is None:
            return self._inapplicable(
                f"{claim.data.name} has no training images, around which the certificate holds."
            )
        if not is_smooth(run.model):
            return self._inapplicable(
                "The network is no sequence of smooth layers, so the certificate does not hold."
            )
        gamma = float(claim.model.card.get("options", {}).get("gamma", GAMMA))
        chosen = shuffled(len(train), run.seed)[: len(run.indices)].sort().values
        grid = contrast_shifts(claim.data.name)
        with run.progress.bar("distributional certificate", 1 + len(grid) + len(PRICES)) as advance:
            trained = shift(run, train, chosen, 1.0, 0.0, gamma)
            advance(1)
            base, *moved = [
                shift(run, test, run.indices, alpha, beta, gamma) for alpha, beta in grid
            ]
            advance(len(grid))
            attacked = [
                shift(run, test, run.indices, 1.0, 0.0, factor * gamma) for factor in PRICES
            ]
        attacked = sorted([*attacked, base], key=lambda found: found.mean("distance").value)
        line = Line(gamma, mean(trained.worth(gamma)))
        guess = math.log(len(claim.data.classes))
        return self._finding(
            Held(line, trained, base, attacked, moved, curved_share(run, gamma), guess)
        )

    def _inapplicable(self, why: str) -> Finding:
        return Finding("distributional", self.question, "not applicable", RULE, why)

    def _finding(self, held: Held) -> Finding:
        line, base, farthest = held.line, held.base, held.farthest
        n = len(base.frame)
        tight = held.trained.mean("distance").value
        return Finding(
            probe="distributional",
            question=self.question,
            verdict=held.verdict,
            rule=RULE,
            headline=self._headline(held),
            numbers={
                "gamma": finite(line.gamma),
                **columns("phi", line.phi),
                "tight_rho": finite(tight),
                "tight_loss": finite(line.at(tight)),
                **columns("test_loss", base.mean("moved_loss")),
                **columns("attacked_test_loss", base.mean("loss")),
                "attacked_test_rho": finite(base.mean("distance").value),
                "guess": finite(held.guess),
                "farthest_alpha": farthest.alpha,
                "farthest_beta": farthest.beta,
                "farthest_rho": finite(held.reach),
                "farthest_bound": finite(line.at(held.reach)),
                **columns("farthest_loss", farthest.mean("moved_loss")),
                **columns("farthest_attacked_loss", farthest.mean("loss")),
                "curved_share": finite(held.curved),
                "beaten": held.beaten,
                "contradictions": held.crossings,
                "n": n,
            },
            tables={
                "curve": self._curve(held),
                "grid": [self._row(found, line) for found in (base, *held.moved)],
                "points": [
                    row for found in (base, *held.moved) for row in self._points(found, line)
                ],
            },
            figures=(
                Curve(
                    "curve",
                    "Mean loss against the mean squared L2 distance rho from the data: what the certificate allows, and what "
                    "gradient ascent finds on the test set at several prices of distance.",
                    table="curve",
                    x="rho",
                    y="loss",
                    low="loss_low",
                    high="loss_high",
                    x_label="mean squared L2 distance",
                    y_label="mean loss",
                    group="series",
                    marks={"tight": tight, "farthest harmless move": held.reach},
                ),
                Scatter(
                    "moves",
                    "Each cell of the grid: the loss of the moved test images, the same attacked, and what the certificate allows "
                    "at the distance of either from the test images before the move.",
                    table="points",
                    x="rho",
                    y="loss",
                    x_label="mean squared L2 distance",
                    y_label="mean loss",
                    group="series",
                ),
            ),
            notes=(
                f"Certificate: Sinha et al. 2018, cross-entropy, gamma {line.gamma:.4g}, from {line.phi.n} training images drawn "
                "at random. It bounds the mean loss over data near the training data, not the label of any image, and lets images "
                "leave [0, 1]. Test images stand in for the training data: distances are measured from the image before the move.",
                "The supremum in it is found by gradient ascent, which is sure to find it only where the inner problem is concave. "
                f"At {held.curved:.0%} of the transported test images looked at, the curvature of the loss exceeds 2 gamma (at "
                f"least: it is estimated from below), and on {held.beaten} of {n} images some move of the grid, attacked or not, "
                "beats the maximum found.",
            ),
        )

    @staticmethod
    def _headline(held: Held) -> str:
        line, base, farthest = held.line, held.base, held.farthest
        certificate = (
            f"Within a mean squared L2 distance rho of the training data the mean loss is at most {line.gamma:.3g} rho + "
            f"{line.phi.value:.3g} (a guess costs {held.guess:.3g}); the test set, attacked, reaches "
            f"{base.mean('loss').value:.3g} at rho {base.mean('distance').value:.3g}."
        )
        if farthest is base:
            return f"{certificate} No move on the grid is harmless: each costs over {HARMLESS:.0%} of accuracy."
        return (
            f"{certificate} The harmless move to alpha {farthest.alpha:g}, beta {farthest.beta:g} is a shift of {held.reach:.3g}: "
            f"there {line.at(held.reach):.3g} is allowed, {farthest.mean('moved_loss').value:.3g} found, attacked "
            f"{farthest.mean('loss').value:.3g}."
        )

    @staticmethod
    def _curve(held: Held) -> list[Row]:
        line = held.line
        most = max(
            found.mean("distance").value for found in (held.trained, *held.attacked, *held.moved)
        )
        allowed = [
            {
                "series": "allowed by the certificate",
                "rho": finite(rho),
                "loss": finite(line.at(rho)),
                "loss_low": finite(line.gamma * rho + line.phi.low),
                "loss_high": finite(line.gamma * rho + line.phi.high),
            }
            for rho in np.linspace(0, most, POINTS)
        ]
        reached = [
            {
                "series": "test set, attacked",
                "rho": finite(found.mean("distance").value),
                **columns("loss", found.mean("loss")),
            }
            for found in held.attacked
        ]
        return allowed + reached

    @staticmethod
    def _row(found: Shifted, line: Line) -> Row:
        after, attacked = found.mean("moved_distance").value, found.mean("distance").value
        return {
            "move": f"{found.alpha:g}, {found.beta:g}",
            "alpha": found.alpha,
            "beta": found.beta,
            "n": len(found.frame),
            **columns("accuracy", rate(found.frame["right"].to_numpy() > 0)),
            "rho": finite(after),
            **columns("loss", found.mean("moved_loss")),
            "bound": finite(line.at(after)),
            "attacked_rho": finite(attacked),
            **columns("attacked_loss", found.mean("loss")),
            "attacked_bound": finite(line.at(attacked)),
        }

    @staticmethod
    def _points(found: Shifted, line: Line) -> list[Row]:
        points = []
        for series, end in (("moved", "moved_"), ("moved and attacked", "")):
            rho, loss = (found.mean(f"{end}{column}").value for column in ("distance", "loss"))
            points.append({"series": series, "rho": finite(rho), "loss": finite(loss)})
            points.append(
                {
                    "series": "allowed by the certificate",
                    "rho": finite(rho),
                    "loss": finite(line.at(rho)),
                }
            )
        return points
