"""Which harmless transform of the images voids the claim most?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
import polars as pl

from scotoma.claim import Claim
from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled
from scotoma.probes.base import Conclusion, Probe, Settings
from scotoma.probes.blindspots import map_report
from scotoma.probes.blindspots.definition import LIMITS
from scotoma.probes.blindspots.map_result import COMPOSED, PLANE, Family, SearchResult
from scotoma.probes.blindspots.search import (
    SPARE,
    SURVEYED,
    Objective,
    Visit,
    as_table,
    from_table,
    gradient_search,
)
from scotoma.probes.blindspots.transformed import (
    Scout,
    TransformedSet,
    alpha_beta,
    classified,
    contrast_shift,
    untouched,
)
from scotoma.probes.robustness.verdict import NOTHING_TO_ATTACK
from scotoma.results.finding import Finding
from scotoma.threat import TOLERANCE
from scotoma.transforms import TRANSFORMS
from scotoma.transforms.composition import Composition
from scotoma.transforms.control import Control
from scotoma.transforms.space import Space
from scotoma.utils.errors import InputError

STARTS = ((0.4, 1.0), (0.6, 0.0))
"""Contrast shifts in `ScaleShift.at` from which the search may start beside the worst transform of
each family: the two ends of the grid of Zhang et al. 2019."""
CANDIDATES = 2
"""Number of compositions with the best scores, overall and at each of `PRICES`, that are attacked
on all images of the selection."""
PRICES = (1.0, SPARE, 0.0)
"""Largest estimated costs of accuracy; the estimate is rough, and the whole test set decides."""
SHARES = (1.0, 0.9, 0.8, 0.65)
"""Shares of a composition, tried in turn until one of them is harmless."""


@dataclass(frozen=True)
class BlindSpotMap(Probe):
    """A search for the harmless transform with the lowest robust accuracy.

    Transforms are chosen on one half of the audited images (the selection) and reported on the
    other half. On the selection, a cheap attack is run on every cell of the (alpha, beta) plane of
    scale-shift and on every strength of the other families (its `sweep`). Finer grids follow around
    the worst harmless cell. A search over the parameters of all families together follows gradients
    and evolution strategies from there. The audit attack is then run, on the other half, on the
    worst harmless transform of each family, on the composition and on their random controls. This
    extends the grid of Zhang et al. 2019, section 3.3.

    Args:
        families: names of `TRANSFORMS`; families of colour are omitted for grey images.
        resolution: number of steps from alpha 1 down to `lowest`. The steps of beta are half as
            long and reach +-(1 - alpha) / 2.
        lowest: the smallest alpha, above 0.
        rounds: number of finer grids, each with half the spacing of the one before.
        steps: gradient steps of the cheap attack.
        composed: passes of the search over compositions, in cells: each is worth `steps` forward
            and backward passes of every image chosen on. 0 searches no compositions.

    Raises:
        InputError: no family, or an unknown one.

    Example:
        >>> BlindSpotMap(families=("scale-shift", "blur"), rounds=1).resolution
        5
    """

    families: tuple[str, ...] = tuple(TRANSFORMS)
    resolution: int = 5
    lowest: float = 0.5
    rounds: int = 2
    steps: int = 20
    composed: int = 40

    question = "Which harmless transform of the images voids the claim most?"

    def __post_init__(self):
        if not self.families:
            raise InputError(f"families=(): want at least one of {', '.join(TRANSFORMS)}")
        for family in self.families:
            TRANSFORMS[family]

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Conclusion:
        result = self.search(Scout(run, settings, self.steps))
        if not result.families:
            why = self._reason(run, result)
            return lambda ledger: Finding("map", self.question, "not applicable", LIMITS.rule, why)
        return partial(map_report.describe, result, self.question, run, settings.attack, self.steps)

    def _reason(self, run: Run, result: SearchResult) -> str:
        """Return why there was nothing to search."""
        if not result.base.success.n:
            return NOTHING_TO_ATTACK
        if len(run.indices) < 2:
            return (
                "One image is too few: transforms are chosen on one half and reported on the other."
            )
        return f"These images are grey, and {', '.join(self.families)} change colours alone."

    def search(self, scout: Scout) -> SearchResult:
        """Attack all transforms, or the test set alone if no image is classified correctly."""
        run, base = scout.run, scout.strong(None)
        selection, held_out = run.indices[0::2], run.indices[1::2]
        result = SearchResult(base, selection.tolist(), held_out.tolist())
        if base.success.n == 0 or not len(held_out):
            return result
        selecting = replace(scout, run=run.subset(selection))
        reporting = replace(scout, run=run.subset(held_out))
        channels = run.claim.data.shape[0]
        names = [n for n in dict.fromkeys(self.families) if channels == 3 or not _colour(n)]
        with run.progress.bar("families", len(names) + (self.composed > 0)) as advance:
            for family in names:
                if family == PLANE:
                    cells = [contrast_shift(*each) for each in self._grid()]
                    result.plane.extend(selecting.sweep(cells, " plane"))
                    result.refined.extend(self._refine(selecting, result.plane, base))
                    sets = result.plane + result.refined
                else:
                    sets = selecting.sweep(TRANSFORMS[family].sweep(), f" {family}")
                    result.sweeps[family] = sets
                worst = selecting.worst(sets, base)
                result.families.append(self._verify(reporting, family, worst))
                advance(1)
            space = Space(tuple(names), channels)
            if self.composed and space.dimensions > 1:
                result.visits.extend(self._compose(selecting, space, result))
                candidates = self._candidates(selecting, space, result.visits, base)
                worst = selecting.worst(candidates, base, ordered=True)
                result.families.append(self._verify(reporting, COMPOSED, worst))
                advance(1)
        return result

    def _compose(self, scout: Scout, space: Space, result: SearchResult) -> list[Visit]:
        """Search the compositions once for these images, and return all that were scored."""
        run = scout.run
        starts = [space.place(PLANE, each) for each in STARTS if PLANE in space.parts]
        for each in result.families:
            if each.transform is not None and each.name in space.parts:
                point = each.transform.point  # type: ignore[attr-defined]
                starts.append(space.place(each.name, point))
        most = self.composed * 2 * self.steps * len(run.indices)

        def compute() -> pl.DataFrame:
            screen = shuffled(len(run.claim.data.test), run.seed)
            with run.seeded():
                objective = Objective(run, space, run.indices, screen, self.steps)
                gradient_search(objective, starts, most, run.seed)
            return as_table(objective.visits)

        config = {
            "families": space.parts,
            "steps": self.steps,
            "most": most,
            "surveyed": SURVEYED,
            "starts": [each.tolist() for each in starts],
            "threat": str(run.claim.threat),
            "seed": run.seed,
        }
        return from_table(run.table("composition", config, compute))

    @staticmethod
    def _candidates(
        scout: Scout, space: Space, visits: list[Visit], base: TransformedSet
    ) -> list[TransformedSet]:
        """Attack the harmless compositions with the best scores, best first, on the selection."""
        ordered = sorted(visits, key=lambda visit: visit.score)
        points = [np.array(visit.point) for most in PRICES for visit in _cheap(ordered, most)]

        def harmless(point: np.ndarray) -> Composition | None:
            for share in SHARES:
                composition = space.at(share * point)
                transformed = classified(scout.run, untouched(scout.run, composition))
                if composition.parts and transformed.cost(base).high <= base.limits.harmless:
                    return composition
            return None

        best = dict.fromkeys(map(harmless, points))
        return scout.sweep([each for each in best if each is not None], " compositions")

    def _grid(self) -> list[tuple[float, float]]:
        """Return (alpha, beta) with |beta| <= (1 - alpha) / 2, where no pixel leaves the range."""
        step = self._step
        return [
            (_rounded(1 - i * step), _rounded(j * step / 2))
            for i in range(self.resolution + 1)
            for j in range(-i, i + 1)
        ]

    @property
    def _step(self) -> float:
        return (1 - self.lowest) / self.resolution

    def _refine(
        self, scout: Scout, plane: list[TransformedSet], base: TransformedSet
    ) -> list[TransformedSet]:
        """Attack the neighbours of the worst harmless cell, at half the distance in each round."""
        visited, sets, step = set(self._grid()), [], self._step
        with scout.run.progress.bar(" refining", 8 * self.rounds) as advance:
            for _ in range(self.rounds):
                step /= 2
                centre = scout.worst(plane + sets, base)
                if centre is None:
                    break
                alpha, beta = alpha_beta(centre.transform)
                around = [
                    (_rounded(alpha + i * step), _rounded(beta + j * step / 2))
                    for i, j in product((-1, 0, 1), repeat=2)
                ]
                inside = [
                    (a, b)
                    for a, b in around
                    if self.lowest <= a < 1 and abs(b) <= (1 - a) / 2 + TOLERANCE
                ]
                new = [each for each in inside if each not in visited]
                sets += [scout.cheap(contrast_shift(*each), advance) for each in new]
                visited.update(inside)
        return sets

    @staticmethod
    def _verify(scout: Scout, family: str, worst: TransformedSet | None) -> Family:
        """Run the audit attack on a family's worst harmless transform and on its control."""
        if worst is None or worst.transform is None:
            return Family(family)
        control = Control(worst.transform)
        return Family(family, worst, scout.strong(worst.transform), scout.strong(control))


def _cheap(ordered: list[Visit], most: float) -> list[Visit]:
    """Return the first visits at a cost of accuracy of at most `most`."""
    return [visit for visit in ordered if visit.cost <= most][:CANDIDATES]


def _colour(family: str) -> bool:
    return getattr(TRANSFORMS[family], "colour", False)


def _rounded(value: float) -> float:
    """Return the value without the last binary digits, which would be in names and hashes."""
    return round(value, 6) + 0.0  # -0.0 is another name for 0.0
