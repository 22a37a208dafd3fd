"""How much mean loss can a shift of the data cost, and do contrast shifts stay within that?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scotoma.certificates.wasserstein import GAMMA, is_smooth
from scotoma.claim import Claim
from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled
from scotoma.probes.base import Conclusion, Probe, Settings, columns
from scotoma.probes.blindspots.definition import LIMITS
from scotoma.probes.blindspots.grid import contrast_shifts
from scotoma.probes.blindspots.probe import none_harmless
from scotoma.probes.certificates.transport import (
    Bound,
    TransportedSet,
    curved_share,
    shift_cost,
    transported,
)
from scotoma.results.finding import Curve, Finding, Row, Scatter, Verdict
from scotoma.utils.stats import finite, mean, rate
from scotoma.utils.text import counted

CURVED = 0.05
"""Share of images on which the maximum of gradient ascent may be missed."""
RULE = (
    f"{LIMITS.is_harmless} "
    "Broken: the mean loss of some image set lies above the certificate at its distance by more "
    "than the 95% intervals, or some contrast shift exceeds the maximum of gradient ascent on more "
    f"than {CURVED:.0%} of images. Weak: the inner problem is not concave at more than "
    f"{CURVED:.0%} of images, or the certificate allows the loss of a guess at the distance of a "
    "harmless contrast shift. Undecided: no contrast shift is shown to be harmless. Otherwise it "
    "holds. Not applicable: the network is not smooth, or there are no training images."
)
PRICES = (4.0, 2.0, 0.5)
"""Multiples of gamma at which the test set is attacked, in addition to gamma itself."""
POINTS = 30
"""Number of points on the line of the certificate."""


@dataclass(frozen=True)
class Results:
    """The certificate and the image sets that it is checked against.

    Args:
        bound: the certificate.
        trained: the training images, transported.
        base: the test set itself, transported at gamma.
        attacked: the test set at all prices, `base` among them, by increasing distance.
        shifted: the test set after each contrast shift, transported at gamma.
        curved: share of images where the inner problem is not concave.
        guess: mean loss of a guess.
    """

    bound: Bound
    trained: TransportedSet
    base: TransportedSet
    attacked: Sequence[TransportedSet]
    shifted: Sequence[TransportedSet]
    curved: float
    guess: float

    @property
    def farthest(self) -> TransportedSet:
        """The harmless contrast shift that changes the images most; `base` if none is harmless."""
        return max(
            self.harmless, key=lambda each: each.mean("moved_distance").value, default=self.base
        )

    @property
    def harmless(self) -> list[TransportedSet]:
        """The contrast shifts that are shown to be harmless."""
        return [each for each in self.shifted if each.is_harmless]

    @property
    def reach(self) -> float:
        """Mean squared distance of `farthest`."""
        return self.farthest.mean("moved_distance").value

    @property
    def exceeding(self) -> int:
        """Number of images on which a contrast shift exceeds the maximum of gradient ascent."""
        gamma, sets = self.bound.gamma, (self.base, *self.shifted)
        maximum = self.base.worth(gamma)
        worths = [each.worth(gamma, shifted) for each in sets for shifted in (False, True)]
        slack = 1e-3 * (1 + abs(maximum))  # gradient ascent comes near a maximum, not to it
        return int((np.max(worths, 0) > maximum + slack).sum())

    @property
    def contradictions(self) -> int:
        """Number of image sets above the certificate."""
        return self.bound.contradictions([*self.attacked, *self.shifted])

    @property
    def verdict(self) -> Verdict:
        if self.contradictions or self.exceeding > CURVED * len(self.base.frame):
            return "broken"
        allowed = self.bound.at(self.reach)
        if self.curved > CURVED or (self.harmless and allowed >= self.guess):
            return "weak"
        return "holds" if self.harmless else "undecided"


class Distributional(Probe):
    """The distributional certificate of Sinha et al. (2018), beside the loss of test images.

    The certificate is computed from training images. The test images are shifted in contrast and
    attacked.

    Example:
        >>> Distributional().question.split(",")[0]
        'How much mean loss can a shift of the data cost'
    """

    question = (
        "How much mean loss can a shift of the data cost, and do harmless contrast shifts stay "
        "within that?"
    )

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Conclusion:
        train, test = claim.data.train, claim.data.test
        if train is None:
            return self._inapplicable(
                f"Data {claim.data.name} has no training images, from which the certificate is "
                "computed."
            )
        if not is_smooth(run.model):
            return self._inapplicable(
                "The network is not a sequence of smooth layers, which the certificate requires."
            )
        gamma = float(claim.model.card.get("options", {}).get("gamma", GAMMA))
        sample = shuffled(len(train), run.seed)[: len(run.indices)].sort().values
        grid = contrast_shifts(claim.data.name, claim.data.shape)
        with run.progress.bar("distributional certificate", 1 + len(grid) + len(PRICES)) as advance:
            trained = transported(run, train, sample, 1.0, 0.0, gamma)
            advance(1)
            base, *shifted = [transported(run, test, run.indices, *each, gamma) for each in grid]
            shifted = [replace(s, cost=shift_cost(run, s.alpha, s.beta)) for s in shifted]
            advance(len(grid))
            attacked = [
                transported(run, test, run.indices, 1.0, 0.0, factor * gamma) for factor in PRICES
            ]
        attacked = sorted([*attacked, base], key=lambda each: each.mean("distance").value)
        bound, guess = Bound(gamma, mean(trained.worth(gamma))), math.log(len(claim.data.classes))
        curved = curved_share(run, gamma)
        results = Results(bound, trained, base, attacked, shifted, curved, guess)
        return lambda ledger: self._finding(results)

    def _inapplicable(self, why: str) -> Conclusion:
        return lambda ledger: Finding("distributional", self.question, "not applicable", RULE, why)

    def _finding(self, results: Results) -> Finding:
        bound, base, farthest = results.bound, results.base, results.farthest
        n, reach = len(base.frame), results.reach
        tight = results.trained.mean("distance").value
        sets = (base, *results.shifted)
        return Finding(
            probe="distributional",
            question=self.question,
            verdict=results.verdict,
            rule=RULE,
            headline=_headline(results),
            numbers={
                "gamma": finite(bound.gamma),
                **columns("phi", bound.phi),
                "tight_rho": finite(tight),
                "tight_loss": finite(bound.at(tight)),
                **columns("test_loss", base.mean("moved_loss")),
                **columns("attacked_test_loss", base.mean("loss")),
                "attacked_test_rho": finite(base.mean("distance").value),
                "guess": finite(results.guess),
                "farthest_alpha": farthest.alpha,
                "farthest_beta": farthest.beta,
                "farthest_rho": finite(reach),
                "farthest_bound": finite(bound.at(reach)),
                **columns("farthest_loss", farthest.mean("moved_loss")),
                **columns("farthest_attacked_loss", farthest.mean("loss")),
                "curved_share": finite(results.curved),
                "harmless": len(results.harmless),
                "exceeding": results.exceeding,
                "contradictions": results.contradictions,
                "n": n,
            },
            tables={
                "curve": _curve(results),
                "grid": [_row(each, bound) for each in sets],
                "points": [row for each in sets for row in _points(each, bound)],
            },
            figures=(
                Curve(
                    "curve",
                    "Mean loss against the mean squared L2 distance rho from the data: the largest "
                    "loss that the certificate allows, and the loss that gradient ascent reaches "
                    "on the test set at several prices of distance.",
                    table="curve",
                    x="rho",
                    y="loss",
                    interval=True,
                    x_label="mean squared L2 distance",
                    y_label="mean loss",
                    group="series",
                    marks={"tight": tight, "farthest harmless contrast shift": reach},
                ),
                Scatter(
                    "shifts",
                    "Mean loss of the test images after each contrast shift of the grid, and after "
                    "an attack on those images. Above each lies the loss that the certificate "
                    "allows at its distance from the original test images. The table says which "
                    "contrast shifts are shown to be harmless.",
                    table="points",
                    x="rho",
                    y="loss",
                    x_label="mean squared L2 distance",
                    y_label="mean loss",
                    group="series",
                ),
            ),
            notes=(
                f"Certificate: Sinha et al. 2018, cross-entropy, gamma {bound.gamma:.4g}, from "
                f"{counted(bound.phi.n, 'training image')} drawn at random. It bounds the mean "
                "loss over data near the training data, not the label of any image, and allows "
                "pixels outside [0, 1]. Test images stand in for the training data: distances are "
                "measured from the test image before the contrast shift.",
                "The supremum in it is computed by gradient ascent, which is certain to reach it "
                f"only where the inner problem is concave. The curvature of the loss exceeds "
                f"2 gamma on {results.curved:.0%} of the transported test images that were "
                "examined (a lower estimate). Some contrast shift of the grid, attacked or not, "
                f"exceeds the maximum of gradient ascent on {results.exceeding} of "
                f"{counted(n, 'image')}.",
            ),
        )


def _headline(results: Results) -> str:
    bound, base, farthest = results.bound, results.base, results.farthest
    certificate = (
        "Within a mean squared L2 distance rho of the training data, the mean loss is at most "
        f"{bound.gamma:.3g} rho + {bound.phi.value:.3g} (a guess has loss {results.guess:.3g}). "
        f"The attacked test set has mean loss {base.mean('loss').value:.3g} at rho "
        f"{base.mean('distance').value:.3g}."
    )
    if farthest is base:
        n = results.shifted[0].cost.n
        return f"{certificate} {none_harmless('contrast shift of the grid', n)}"
    return (
        f"{certificate} The harmless contrast shift to alpha {farthest.alpha:g}, beta "
        f"{farthest.beta:g} has rho {results.reach:.3g}: the certificate allows a mean loss of "
        f"{bound.at(results.reach):.3g} there, and the images have "
        f"{farthest.mean('moved_loss').value:.3g}, attacked {farthest.mean('loss').value:.3g}."
    )


def _curve(results: Results) -> list[Row]:
    bound = results.bound
    sets = (results.trained, *results.attacked, *results.shifted)
    allowed = [
        {
            "series": "allowed by the certificate",
            "rho": finite(rho),
            "loss": finite(bound.at(rho)),
            "loss_low": finite(bound.gamma * rho + bound.phi.low),
            "loss_high": finite(bound.gamma * rho + bound.phi.high),
        }
        for rho in np.linspace(0, max(each.mean("distance").value for each in sets), POINTS)
    ]
    reached = [
        {
            "series": "test set, attacked",
            "rho": finite(each.mean("distance").value),
            **columns("loss", each.mean("loss")),
        }
        for each in results.attacked
    ]
    return allowed + reached


def _row(each: TransportedSet, bound: Bound) -> Row:
    after, attacked = each.mean("moved_distance").value, each.mean("distance").value
    shift = f"{each.alpha:g}, {each.beta:g}"
    harmless = not each.shifts or each.is_harmless
    return {
        "label": shift if harmless else f"({shift})",
        "contrast_shift": shift,
        "alpha": each.alpha,
        "beta": each.beta,
        "n": len(each.frame),
        **columns("accuracy", rate(each.frame["right"].to_numpy() > 0)),
        **columns("cost", each.cost),
        "harmless": harmless,
        "rho": finite(after),
        **columns("loss", each.mean("moved_loss")),
        "bound": finite(bound.at(after)),
        "attacked_rho": finite(attacked),
        **columns("attacked_loss", each.mean("loss")),
        "attacked_bound": finite(bound.at(attacked)),
    }


def _points(each: TransportedSet, bound: Bound) -> list[Row]:
    rows = []
    for series, prefix in (("shifted", "moved_"), ("shifted and attacked", "")):
        rho, loss = (each.mean(f"{prefix}{column}").value for column in ("distance", "loss"))
        for name, value in ((series, loss), ("allowed by the certificate", bound.at(rho))):
            rows.append({"series": name, "rho": finite(rho), "loss": finite(value)})
    return rows
