"""Does it hold only in the norm it was trained for? Attacks of every kind in three norms, the smallest distance an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from scotoma.attacks import follows_gradients, make
from scotoma.claim import Claim, Threat
from scotoma.finding import Finding
from scotoma.models.synthesis import AnalysisBySynthesis
from scotoma.probes import norms_finding
from scotoma.probes.norms_bounds import bounds
from scotoma.probes.norms_reading import Kind, Reading, Tried
from scotoma.probes.probe import Settings
from scotoma.run import Attack, Run

ATTACKS: Mapping[str, tuple[str, ...]] = {
    "l0": ("sigma-zero", "vfga", "pointwise", "salt-pepper"),
    "l2": ("ddn", "fmn-l2", "deepfool", "boundary", "gaussian-noise", "contrast", "latent-descent"),
    "linf": ("min-linf", "fmn-linf", "hop-skip-jump"),
}
QUERIES = 1000
"""An image, of an attack that asks for decisions until it is told to stop. More bring it nearer, above all on large images."""


@dataclass(frozen=True, eq=False)
class Norms:
    """Distances and accuracy in L0, L2 and L-inf (Schott et al. 2019, section 6: the minimum over all attacks, image by image).

    In the norm of the claim the attack that the audit uses takes part too.

    Args:
        attacks: by norm, the names of `scotoma.attacks.ATTACKS` that are tried. Of several that find the same distance the first
            is credited with it.
        bounds: at which accuracy is told, in other norms than the claim's; those in `Settings` count before these, these before
            `norms_bounds.bounds`.
        queries: an image, of the attacks that can be told.
    """

    attacks: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: dict(ATTACKS))
    bounds: tuple[Threat, ...] = ()
    queries: int = QUERIES

    question = "Does it hold only in the norm it was trained for?"

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Finding:
        told = bounds(claim, (*self.bounds, *settings.bounds))
        made = {norm: self._made(settings, bound, claim) for norm, bound in told.items()}
        tried = {
            norm: tuple(Tried(name, kind, attack, run.attack(attack, what=f"{name} in {norm}")) for name, kind, attack in attacks)
            for norm, attacks in made.items()
        }
        # a randomised model has other images right whenever it is asked
        every = [(each.records["prediction"] == each.records["label"]).to_numpy() for attacks in tried.values() for each in attacks]
        right = np.all(every, axis=0)
        readings = {norm: Reading(told[norm], attacks, right) for norm, attacks in tried.items() if attacks}
        return norms_finding.describe(self.question, claim, run, readings, self.queries)

    def _made(self, settings: Settings, bound: Threat, claim: Claim) -> list[tuple[str, Kind, Attack]]:
        """The attacks of one norm, by name and kind; latent descent on models that reconstruct images only."""
        generative = any(isinstance(part, AnalysisBySynthesis) for part in claim.model.module.modules())
        names = [name for name in self.attacks.get(bound.norm, ()) if name != "latent-descent" or generative]
        made: list[tuple[str, Kind, Attack]] = [
            (name, "gradient" if follows_gradients(name) else "decision", make(name, bound, queries=self.queries)) for name in names
        ]
        if bound == claim.threat and settings.attack not in names:
            made.append((settings.attack, "the audit's own", settings.make_attack(bound)))
        return made
