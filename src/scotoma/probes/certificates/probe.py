"""Does its certificate survive harmless changes of contrast and background?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import torch
from torch import Tensor

from scotoma.certificates.dual import certified
from scotoma.certificates.layers import Network, read_network
from scotoma.claim import TOLERANCE, Claim
from scotoma.execution.run import Run, Transform, describe
from scotoma.probes.base import Probe, Settings, columns, sized
from scotoma.probes.blindspots.grid import contrast_shifts
from scotoma.probes.blindspots.probe import HARMLESS, move
from scotoma.probes.blindspots.transformed import Spot, cell
from scotoma.results.finding import Bars, Finding, Gallery, Row, Verdict
from scotoma.utils.errors import InputError
from scotoma.utils.stats import Rate, rate
from scotoma.utils.text import norm_name

LEFT = 0.5
RULE = (
    f"a move is harmless if it costs at most {HARMLESS:.0%} of accuracy; broken if under some harmless move the 95% interval of "
    f"certified accuracy at alpha·eps lies below {LEFT:.0%} of that at eps on the test set itself, or if an attack succeeds inside "
    "a certified ball; weak if it lies below the interval of the latter, else holds; not applicable if the bound does not know the "
    "network or certifies nothing on the test set itself"
)
SHOWN = 6


@dataclass(frozen=True)
class Ground:
    """A cell of the grid, certified and attacked."""

    spot: Spot
    proofs: pl.DataFrame
    """`index`, `eps` and `alpha_eps`: whether no perturbation of that size changes the label"""

    @cached_property
    def certified(self) -> Rate:
        """at eps, of all images"""
        return rate(self.proofs["eps"].to_numpy())

    @cached_property
    def scaled(self) -> Rate:
        """certified at alpha·eps"""
        return rate(self.proofs["alpha_eps"].to_numpy())

    @cached_property
    def contradictions(self) -> int:
        """Images on which the attack succeeds inside a certified ball."""
        both = self.spot.records.join(self.proofs, on="index")
        sizes = {"eps": self.spot.eps, "alpha_eps": self.spot.contrast * self.spot.eps}
        fell = [pl.col(name) & (pl.col("linf") <= size + TOLERANCE) for name, size in sizes.items()]
        return len(both.filter(pl.any_horizontal(fell)))


class Certificate(Probe):
    """The dual bound of Wong and Kolter (2018) beside the attack, over the grid of Zhang et al. 2019.

    What is certified is a lower bound on robust accuracy, what the attack leaves an upper one.
    """

    question = "Does its certificate survive harmless changes of contrast and background?"

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Finding:
        if claim.threat.norm != "linf":
            return self._inapplicable(
                f"The bound is one in L-inf, and the claim is one in {norm_name(claim.threat.norm)}."
            )
        try:
            network = read_network(run.model, claim.data.shape)
        except InputError as error:
            return self._inapplicable(f"There is {error}.")
        grounds, grid = [], contrast_shifts(claim.data.name)
        with run.progress.bar("certificates", len(grid)) as advance:
            for alpha, beta in grid:
                grounds.append(
                    self._ground(claim, run, settings, network, alpha, move(alpha, beta))
                )
                advance(1)
        base, moved = grounds[0], grounds[1:]
        if base.certified.value == 0:
            return self._inapplicable(
                f"The bound certifies none of {base.certified.n} test images, so there is nothing to lose."
            )
        harmless = [ground for ground in moved if ground.spot.is_harmless(base.spot)]
        worst = min(
            harmless,
            key=lambda ground: (ground.scaled.value, ground.spot.robust_scaled.value),
            default=base,
        )
        chosen = self._fallen(base, worst)
        contradictions = sum(ground.contradictions for ground in grounds)
        alpha, beta = cell(worst.spot.transform)
        return Finding(
            probe="certificate",
            question=self.question,
            verdict="broken" if contradictions else self._verdict(base, harmless),
            rule=RULE,
            headline=self._headline(base, worst, contradictions),
            numbers={
                **columns("certified_accuracy", base.certified),
                **columns("accuracy", base.spot.accuracy),
                **columns("robust_accuracy", base.spot.robust),
                "worst_alpha": alpha,
                "worst_beta": beta,
                **columns("worst_certified_accuracy_eps", worst.certified),
                **columns("worst_certified_accuracy_alpha_eps", worst.scaled),
                **columns("worst_robust_accuracy_alpha_eps", worst.spot.robust_scaled),
                **columns("lost", rate(self._lost(base, worst))),
                "contradictions": contradictions,
                "n": base.certified.n,
            },
            tables={"grid": [self._row(ground) for ground in grounds]},
            figures=(
                Bars(
                    "grid",
                    "Shares of all test images after x' = alpha x + beta on [-0.5, 0.5], with 95% intervals: classified correctly, "
                    "still so after the attack within alpha·eps, and certified. The truth lies between the last two.",
                    table="grid",
                    label="move",
                    series={
                        "accuracy": ("accuracy", "accuracy_low", "accuracy_high"),
                        "withstands the attack at alpha·eps": (
                            "robust_accuracy_alpha_eps",
                            "robust_accuracy_alpha_eps_low",
                            "robust_accuracy_alpha_eps_high",
                        ),
                        "certified at alpha·eps": (
                            "certified_accuracy_alpha_eps",
                            "certified_accuracy_alpha_eps_low",
                            "certified_accuracy_alpha_eps_high",
                        ),
                        "certified at eps": (
                            "certified_accuracy_eps",
                            "certified_accuracy_eps_low",
                            "certified_accuracy_eps_high",
                        ),
                    },
                    y_label="rate",
                ),
                *([self._gallery(worst, chosen)] if len(chosen) else []),
            ),
            notes=(
                "Bound: Wong and Kolter 2018, every layer exactly, the ball cut to [0, 1]. It proves that no perturbation of the "
                "image at hand changes its label; that says nothing of the same image with less contrast. Certified accuracy "
                "counts an image that is classified wrongly as not certified.",
                f"Attack: {settings.attack}, as in the blindspots probe. Success rates are over the images that are classified "
                "correctly after the move.",
            ),
            images={"fallen": self._images(run, worst, chosen)} if len(chosen) else {},
        )

    def _ground(
        self,
        claim: Claim,
        run: Run,
        settings: Settings,
        network: Network,
        alpha: float,
        transform: Transform | None,
    ) -> Ground:
        eps, split = claim.threat.eps, claim.data.test
        attack = settings.make_attack(claim.threat, until=alpha * eps if transform else 0.0)
        what = f"  {transform or 'the test set itself'}"
        records = run.attack(attack, transform, what=what)
        right = torch.from_numpy((records["prediction"] == records["label"]).to_numpy())

        def prove(indices: Tensor) -> np.ndarray:
            images = split.images(indices)
            images = (transform(images) if transform else images).to(run.device)
            labels = split.labels[indices].to(run.device)
            proofs = certified(network, images, labels, eps).repeat(2, 1)
            left = ~proofs[0]  # a proof at eps is one at every smaller size
            if transform and left.any():
                proofs[1, left] = certified(network, images[left], labels[left], alpha * eps)
            return proofs.cpu().numpy()

        def compute() -> pl.DataFrame:
            proofs = np.zeros((2, len(right)), dtype=bool)
            positions = right.nonzero().squeeze(1)
            with run.progress.bar(f"{what}: certifying", len(positions)) as advance:
                for part in positions.split(run.batch_size):
                    proofs[:, part.numpy()] = prove(run.indices[part])
                    advance(len(part))
            return pl.DataFrame(
                {"index": run.indices.numpy(), "eps": proofs[0], "alpha_eps": proofs[1]}
            )

        config = {
            "bound": "dual",
            "transform": describe(transform) if transform else None,
            "sizes": [eps, alpha * eps],
        }
        return Ground(
            Spot(transform, 0.0, attack, records, claim.threat),
            run.table("certificates", config, compute),
        )

    def _inapplicable(self, why: str) -> Finding:
        return Finding("certificate", self.question, "not applicable", RULE, why)

    @staticmethod
    def _verdict(base: Ground, harmless: list[Ground]) -> Verdict:
        if any(ground.scaled.high < LEFT * base.certified.value for ground in harmless):
            return "broken"
        return (
            "weak"
            if any(ground.scaled.high < base.certified.low for ground in harmless)
            else "holds"
        )

    @staticmethod
    def _headline(base: Ground, worst: Ground, contradictions: int) -> str:
        if contradictions:
            return (
                f"THE CERTIFICATE IS WRONG: on {contradictions} images the attack succeeds inside a certified ball. Either the "
                "bound or the measurement has a fault; believe neither and report it."
            )
        kept = f"On the test set itself {base.certified} of images are certified within eps"
        if worst is base:
            return f"{kept}. No move on the grid is harmless: each costs over {HARMLESS:.0%} of accuracy."
        alpha, beta = cell(worst.spot.transform)
        return (
            f"{kept}; at alpha {alpha:g}, beta {beta:g}, where accuracy is {worst.spot.accuracy.value:.1%}, "
            f"{worst.scaled.value:.1%} within alpha·eps and {worst.certified.value:.1%} within eps. There the attack succeeds on "
            f"{worst.spot.scaled.value:.1%} within alpha·eps."
        )

    @staticmethod
    def _row(ground: Ground) -> Row:
        spot = ground.spot
        alpha, beta = cell(spot.transform)
        return {
            "move": f"{alpha:g}, {beta:g}",
            "alpha": alpha,
            "beta": beta,
            "n": spot.accuracy.n,
            **columns("accuracy", spot.accuracy),
            **columns("certified_accuracy_eps", ground.certified),
            **columns("certified_accuracy_alpha_eps", ground.scaled),
            **columns("robust_accuracy_eps", spot.robust),
            **columns("robust_accuracy_alpha_eps", spot.robust_scaled),
            "attacked": spot.success.n,
            **columns("success_eps", spot.success),
            **columns("success_alpha_eps", spot.scaled),
            "contradictions": ground.contradictions,
        }

    @staticmethod
    def _lost(base: Ground, worst: Ground) -> np.ndarray:
        """Of the images that are certified at eps on the test set itself, which are not certified at alpha·eps after the move."""
        return ~worst.proofs.filter(base.proofs["eps"])["alpha_eps"].to_numpy()

    @staticmethod
    def _fallen(base: Ground, worst: Ground) -> pl.DataFrame:
        """A few images that are certified on the test set itself and fall at alpha·eps after the worst move, one a class first."""
        size = worst.spot.contrast * worst.spot.eps
        rows = worst.spot.records.filter(base.proofs["eps"].to_numpy() & worst.spot.fell(size))
        first = rows.sort("index").with_columns(nth=pl.int_range(pl.len()).over("label"))
        return first.sort("nth", "label", "index").head(SHOWN)

    @staticmethod
    def _images(run: Run, worst: Ground, chosen: pl.DataFrame) -> np.ndarray:
        spot = worst.spot
        return np.stack(
            run.examples(spot.attack, spot.transform, chosen["index"].to_list()), axis=1
        )

    @staticmethod
    def _gallery(worst: Ground, chosen: pl.DataFrame) -> Gallery:
        alpha, beta = cell(worst.spot.transform)
        return Gallery(
            "fallen",
            f"Test images that are certified within eps, the same after the move (alpha {alpha:g}, beta {beta:g}), and adversarial "
            "images within alpha·eps of those: the certificate held for another image.",
            images="fallen",
            columns=["certified", "moved", "adversarial"],
            captions=[
                [
                    f"{row['label']}",
                    "still right",
                    f"taken for {row['adversarial_prediction']}, {sized(row, 'linf')}",
                ]
                for row in chosen.iter_rows(named=True)
            ],
        )
