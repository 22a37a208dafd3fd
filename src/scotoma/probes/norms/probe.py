"""Does it hold only in the norm it was trained for? Attacks of every kind in three norms, the smallest distance an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from scotoma.attacks import follows_gradients, make
from scotoma.attacks.pointwise import Pointwise
from scotoma.attacks.refine import Refined
from scotoma.claim import Claim, Threat
from scotoma.execution.run import Attack, Run
from scotoma.models.synthesis import inside
from scotoma.probes.base import Probe, Settings
from scotoma.probes.norms import report
from scotoma.probes.norms.analysis import Kind, Reading, Tried
from scotoma.probes.norms.bounds import bounds, read_bounds
from scotoma.probes.norms.gradients import Gradients, choose_gradients
from scotoma.results.finding import Finding

ATTACKS: Mapping[str, tuple[str, ...]] = {
    "l0": ("sigma-zero", "vfga", "pointwise", "salt-pepper"),
    "l2": ("ddn", "fmn-l2", "deepfool", "boundary", "gaussian-noise", "contrast", "latent-descent"),
    "linf": ("min-linf", "fmn-linf", "hop-skip-jump"),
}
QUERIES = 1000
"""An image, of an attack that asks for decisions until it is told to stop. More bring it nearer, above all on large images."""
RESTARTS = 160
"""Queries that a restart of the pointwise attack takes on digits of 28x28, about."""
STEPS = {"steps": 1, "limit": 1, "restart_steps": 5}
"""The settings of attacks that count steps, and which part of all steps each is."""
Made = tuple[str, Kind, str | None, Attack]
"""An attack after its name, its kind and the gradients that it is given."""


@dataclass(frozen=True, eq=False)
class Norms(Probe):
    """Distances and accuracy in L0, L2 and L-inf (Schott et al. 2019, section 6: the minimum over all attacks, image by image).

    In the norm of the claim the attack that the audit uses takes part too, as the audit uses it. The other attacks that follow
    gradients get those of BPDA or estimated ones where the model's own lead nowhere (`gradients.choose_gradients`).

    Args:
        attacks: by norm, the names of `scotoma.attacks.ATTACKS` that are tried. Of several that find the same distance the first
            is credited with it.
        bounds: sizes at which the accuracy is reported, "l2:1.5" or "l0:12", at most one for each
            norm other than the claim's; the others are those of `norms.bounds.bounds`.
        queries: an image, of the attacks that can be told; they also bound the steps along estimated gradients.
        steps: of the attacks that follow gradients; None is their own number.
    """

    attacks: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(ATTACKS))
    bounds: Sequence[str | Threat] = ()
    queries: int = QUERIES
    steps: int | None = None

    question = "Does it hold only in the norm it was trained for?"

    def prepare(self, claim: Claim) -> Self:
        return replace(self, bounds=read_bounds(self.bounds, claim.threat))

    def provenance(self) -> dict[str, Any]:
        return {"bounds": [str(bound) for bound in self.bounds]} if self.bounds else {}

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Finding:
        readings, gradients = self.readings(claim, run, settings)
        steps = gradients.steps(self.steps, self.queries)
        return report.describe(self.question, claim, run, readings, gradients, self.queries, steps)

    def readings(
        self, claim: Claim, run: Run, settings: Settings | None = None
    ) -> tuple[dict[str, Reading], Gradients]:
        """What the attacks found, by norm, and which gradients they were given; without settings the audit's own attack is none of
        them."""
        told = bounds(claim, map(Threat.parse, self.bounds))
        gradients = choose_gradients(claim, run)
        made = {norm: self._made(settings, bound, claim, gradients) for norm, bound in told.items()}
        tried = {
            norm: tuple(
                Tried(*one, run.attack(one[-1], what=f"{one[0]} in {norm}")) for one in attacks
            )
            for norm, attacks in made.items()
        }
        # a randomised model has other images right whenever it is asked
        every = [
            (each.records["prediction"] == each.records["label"]).to_numpy()
            for attacks in tried.values()
            for each in attacks
        ]
        right = np.all(every, axis=0)
        return {
            norm: Reading(told[norm], attacks, right) for norm, attacks in tried.items() if attacks
        }, gradients

    def _made(
        self, settings: Settings | None, bound: Threat, claim: Claim, gradients: Gradients
    ) -> list[Made]:
        """The attacks of one norm; latent descent on models that reconstruct images only."""
        generative = inside(claim.model.module) is not None
        names = [
            name
            for name in self.attacks.get(bound.norm, ())
            if name != "latent-descent" or generative
        ]
        made = [self._one(name, bound, gradients) for name in names]
        if settings is not None and bound == claim.threat:
            own = settings.gradient if follows_gradients(settings.attack) else None
            if settings.attack not in names or own not in (None, gradients.name):
                made.append((settings.attack, "the audit's own", own, settings.make_attack(bound)))
        return made

    def _one(self, name: str, bound: Threat, gradients: Gradients) -> Made:
        if not follows_gradients(name):
            attack = make(name, bound, queries=self.queries)
            if isinstance(attack, Pointwise):
                attack = replace(
                    attack, restarts=max(1, min(attack.restarts, self.queries // RESTARTS))
                )
            return name, "decision", None, attack
        steps = gradients.steps(self.steps, self.queries)
        fewer = (
            {} if steps is None else {setting: steps // share for setting, share in STEPS.items()}
        )
        attack = gradients.given_to(make(name, bound, queries=self.queries, **fewer))
        across_steps = gradients.name == "bpda" and bound.norm == "l2"
        return name, "gradient", gradients.name, Refined(attack) if across_steps else attack
