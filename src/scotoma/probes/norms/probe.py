"""Does the claim hold only in the norm that the model was trained for?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

from scotoma.attacks import follows_gradients, make
from scotoma.attacks.core.path_search import Paths
from scotoma.attacks.pointwise import Pointwise
from scotoma.attacks.refine import Refined
from scotoma.claim import Claim
from scotoma.execution import records as rec
from scotoma.execution.effort import Effort, Least, is_default
from scotoma.execution.run import Attack, Run
from scotoma.models.synthesis import inside
from scotoma.probes.base import Conclusion, Probe, Settings, check_order
from scotoma.probes.norms import report
from scotoma.probes.norms.analysis import AttackRecords, Kind, NormAnalysis
from scotoma.probes.norms.bounds import bounds, read_bounds
from scotoma.probes.norms.gradients import Gradients, choose_gradients
from scotoma.probes.robustness.verdict import BROKEN, HOLDS
from scotoma.probes.scored import Scored
from scotoma.results.ledger import Ledger
from scotoma.threat import Threat

ATTACKS: Mapping[str, tuple[str, ...]] = {
    "l0": ("sigma-zero", "vfga", "pointwise", "salt-pepper"),
    "l2": ("ddn", "fmn-l2", "deepfool", "boundary", "gaussian-noise", "contrast", "latent-descent"),
    "linf": ("min-linf", "fmn-linf", "hop-skip-jump"),
}
QUERIES = 1000
"""Queries an image of a decision-based attack; more find smaller distances on large images."""
RESTARTS = 160
"""Approximate number of queries of a restart of the pointwise attack on 28x28 digits."""
STEPS = {"steps": 1, "limit": 1, "restart_steps": 5}
"""Settings of attacks that count steps: all steps are divided by these."""
LONG = {"vfga": 0.5, "pointwise": 0.5, "deepfool": 0.25}
"""Attacks that are omitted on a slow model, and the share of passes from which on. Passes of the
first two grow with the pixels (tens of thousands on a photograph). `deepfool` takes a backward pass
for each class, while `ddn` and `fmn-l2` find nearer images."""
BY_NOISE = ("salt-pepper", "gaussian-noise", "contrast")
"""Attacks that search along random directions. With exact gradients other attacks find nearer
images, and these need as much disk as all others together, since noise cannot be compressed."""
QUIET = 0.25
"""Share of the passes from which on a model with exact gradients is not attacked by noise."""
UNREFINED = 0.25
"""Share from which on pixels are not reverted: 420 passes of an image of 224x224."""
NamedAttack = tuple[str, Kind, str | None, Attack]
"""Name, kind, gradients and the attack itself."""


@dataclass(frozen=True, eq=False)
class Norms(Probe):
    """Measure distances and accuracy in L0, L2 and L-inf: the minimum over many attacks, by image.

    In the norm of the claim the audit attack takes part too. Gradient-based attacks use BPDA or
    estimated gradients if those of the model are zero (`gradients.choose_gradients`).

    Args:
        attacks: names of `scotoma.attacks.ATTACKS` by norm; of several that find the same distance
            the first is credited with it.
        bounds: sizes at which the accuracy is reported, "l2:1.5" or "l0:12", at most one for each
            norm other than the claim's; the others are those of `norms.bounds.bounds`.
        queries: queries an image of decision-based attacks; also bounds the steps along estimated
            gradients.
        steps: steps of gradient-based attacks; None is their own number.
        draws: random paths of each attack by noise; None is their own number.
        refine: whether `sigma-zero` and `vfga` revert pixels at the end.
        noise: whether attacks by noise run on a model with exact gradients, too.
        holds, broken: as for the robustness probe, in every other norm.

    Source:
        Schott et al. 2019, section 6.

    >>> Norms(bounds=["l2:1.5"], queries=100).bounds
    ['l2:1.5']
    """

    attacks: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(ATTACKS))
    bounds: Sequence[str | Threat] = ()
    queries: int = QUERIES
    steps: int | None = None
    draws: int | None = None
    refine: bool = True
    noise: bool = True
    holds: float = HOLDS
    broken: float = BROKEN

    thresholds = ("holds", "broken")
    leasts: ClassVar = {
        "queries": Least(250, "queries of each attack by decisions"),
        "steps": Least(40, "steps of each attack by gradients", full=100),
        "draws": Least(33, "draws of each attack by noise", full=100),
    }
    question = "Does the claim hold only in the norm that the model was trained for?"

    def within(self, effort: Effort) -> tuple[Self, list[str]]:
        probe, notes = super().within(effort)
        if effort.share <= UNREFINED and is_default(self, "refine"):
            probe = replace(probe, refine=False)
            notes.append("no reverting of pixels at the end of sigma-zero")
        if effort.whole or not is_default(self, "attacks"):
            return probe, notes
        if effort.share <= QUIET and is_default(self, "noise"):
            probe = replace(probe, noise=False)
            notes.append("no attacks by noise if gradients are exact")
        omitted = {name for name, share in LONG.items() if effort.share <= share}
        attacks = {
            norm: tuple(name for name in names if name not in omitted)
            for norm, names in self.attacks.items()
        }
        return replace(probe, attacks=attacks), [*notes, f"no {', '.join(sorted(omitted))}"]

    def __post_init__(self) -> None:
        check_order(self.holds, self.broken)

    def prepare(self, claim: Claim) -> Self:
        return replace(self, bounds=read_bounds(self.bounds, claim.threat))

    def provenance(self) -> dict[str, Any]:
        return {"bounds": [str(bound) for bound in self.bounds]} if self.bounds else {}

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Conclusion:
        readings, gradients = self.readings(claim, run, settings)
        records = run.attack(settings.make_attack(claim.threat), what="robustness")
        scored = Scored.of(run, records, settings.plan.clean)
        steps = gradients.steps(self.steps, self.queries)
        how = report.how_attacked(gradients, self.queries, steps)
        limits = self.holds, self.broken
        return partial(report.describe, readings, self.question, *limits, how, run, scored)

    def readings(
        self, claim: Claim, run: Run, settings: Settings | None = None
    ) -> tuple[dict[str, NormAnalysis], Gradients]:
        """Return results by norm, each over its own attacks, and the gradients.

        Without settings the audit attack is omitted.
        """
        sizes = bounds(claim, map(Threat.parse, self.bounds))
        gradients = choose_gradients(claim, run)
        planned = {
            norm: self._make_attacks(settings, bound, claim, gradients)
            for norm, bound in sizes.items()
        }
        records = {
            norm: tuple(
                AttackRecords(*entry, run.attack(entry[-1], what=f"{entry[0]} in {norm}"))
                for entry in attacks
            )
            for norm, attacks in planned.items()
        }
        # a randomised model classifies other images correctly in each evaluation
        flags = [rec.is_correct(each.records) for attacks in records.values() for each in attacks]
        correct, index = np.all(flags, axis=0), run.indices.numpy()
        readings = {}
        for norm, attacks in records.items():
            if attacks:
                rows = Ledger.of(each.records for each in attacks).on(index).rows()
                readings[norm] = NormAnalysis(sizes[norm], attacks, correct, rows)
        return readings, gradients

    def _make_attacks(
        self, settings: Settings | None, bound: Threat, claim: Claim, gradients: Gradients
    ) -> list[NamedAttack]:
        """Make the attacks of a norm; latent descent only for models that reconstruct images."""
        omitted = set() if inside(claim.model.module) is not None else {"latent-descent"}
        if not self.noise and gradients.name == "exact":
            omitted.update(BY_NOISE)
        names = [name for name in self.attacks.get(bound.norm, ()) if name not in omitted]
        attacks = [self._make_attack(name, bound, gradients) for name in names]
        if settings is not None and bound == claim.threat:
            gradient = settings.followed if follows_gradients(settings.attack) else None
            if settings.attack not in names or gradient not in (None, gradients.name):
                attacks.append(
                    (settings.attack, "the audit's own", gradient, settings.make_attack(bound))
                )
        return attacks

    def _make_attack(self, name: str, bound: Threat, gradients: Gradients) -> NamedAttack:
        if not follows_gradients(name):
            attack = make(name, bound, queries=self.queries)
            if isinstance(attack, Paths) and self.draws is not None:
                attack = replace(attack, draws=min(attack.draws, self.draws))
            if isinstance(attack, Pointwise):
                fewer = max(1, min(attack.restarts, self.queries // RESTARTS))
                attack = replace(attack, restarts=fewer)
            return name, "decision", None, attack
        steps = gradients.steps(self.steps, self.queries)
        options: dict[str, Any] = {} if self.refine else {"refine": False}
        if steps is not None:
            options |= {setting: steps // share for setting, share in STEPS.items()}
        attack = gradients.applied_to(make(name, bound, queries=self.queries, **options))
        across_steps = gradients.name == "bpda" and bound.norm == "l2"
        return name, "gradient", gradients.name, Refined(attack) if across_steps else attack
