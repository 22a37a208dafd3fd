"""Which harmless transform of the images voids the claim most?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from scotoma.claim import TOLERANCE, Claim
from scotoma.execution.run import Run
from scotoma.probes.base import Conclusion, Probe, Settings
from scotoma.probes.blindspots import map_report
from scotoma.probes.blindspots.map_report import PLANE, Family, SearchResult
from scotoma.probes.blindspots.transformed import (
    Scout,
    TransformedSet,
    alpha_beta,
    contrast_shift,
)
from scotoma.transforms import TRANSFORMS
from scotoma.transforms.control import Control
from scotoma.utils.errors import InputError


@dataclass(frozen=True)
class BlindSpotMap(Probe):
    """A search for the harmless transform with the lowest robust accuracy.

    A cheap attack is run on every cell of the (alpha, beta) plane of scale-shift and on every
    strength of the other families (its `sweep`). Finer grids follow around the worst harmless cell.
    The audit attack is then run on the worst harmless transform of each family and on its random
    control. This extends the grid of Zhang et al. 2019, section 3.3.

    Args:
        families: names of `TRANSFORMS`.
        resolution: number of steps from alpha 1 down to `lowest`. The steps of beta are half as
            long and reach +-(1 - alpha) / 2.
        lowest: the smallest alpha, above 0.
        rounds: number of finer grids, each with half the spacing of the one before.
        steps: gradient steps of the cheap attack.

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

    question = "Which harmless transform of the images voids the claim most?"

    def __post_init__(self):
        if not self.families:
            raise InputError(f"families=(): want at least one of {', '.join(TRANSFORMS)}")
        for family in self.families:
            TRANSFORMS[family]

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Conclusion:
        result = self.search(Scout(run, settings, self.steps))
        if result.base.success.n == 0:
            return lambda ledger: map_report.nothing_correct(self.question)
        return partial(map_report.describe, result, self.question, run, settings.attack, self.steps)

    def search(self, scout: Scout) -> SearchResult:
        """Attack all transforms, or the test set alone if no image is classified correctly."""
        base = scout.strong(None)
        plane, refined, sweeps, families = [], [], {}, []
        with scout.run.progress.bar("families", len(self.families)) as advance:
            for family in dict.fromkeys(self.families) if base.success.n else ():
                if family == PLANE:
                    plane = self._plane(scout)
                    refined = self._refine(scout, plane, base)
                    tried = plane + refined
                else:
                    tried = sweeps[family] = self._sweep(scout, family)
                families.append(self._verify(scout, family, scout.worst(tried, base)))
                advance(1)
        return SearchResult(base, families, plane, refined, sweeps)

    def _grid(self) -> list[tuple[float, float]]:
        """Return (alpha, beta) with |beta| <= (1 - alpha) / 2, where no pixel leaves the range."""
        step = self._step
        return [
            (_plain(1 - i * step), _plain(j * step / 2))
            for i in range(self.resolution + 1)
            for j in range(-i, i + 1)
        ]

    @property
    def _step(self) -> float:
        return (1 - self.lowest) / self.resolution

    def _plane(self, scout: Scout) -> list[TransformedSet]:
        grid = self._grid()
        with scout.run.progress.bar(" plane", len(grid)) as advance:
            return [scout.cheap(contrast_shift(*each), advance) for each in grid]

    def _refine(
        self, scout: Scout, plane: list[TransformedSet], base: TransformedSet
    ) -> list[TransformedSet]:
        """Attack the neighbours of the worst harmless cell, at half the distance in each round."""
        known, tried, step = set(self._grid()), [], self._step
        with scout.run.progress.bar(" refining", 8 * self.rounds) as advance:
            for _ in range(self.rounds):
                step /= 2
                centre = scout.worst(plane + tried, base)
                if centre is None:
                    break
                alpha, beta = alpha_beta(centre.transform)
                around = [
                    (_plain(alpha + i * step), _plain(beta + j * step / 2))
                    for i in (-1, 0, 1)
                    for j in (-1, 0, 1)
                ]
                inside = [
                    (a, b)
                    for a, b in around
                    if self.lowest <= a < 1 and abs(b) <= (1 - a) / 2 + TOLERANCE
                ]
                new = [each for each in inside if each not in known]
                tried += [scout.cheap(contrast_shift(*each), advance) for each in new]
                known.update(inside)
        return tried

    @staticmethod
    def _sweep(scout: Scout, family: str) -> list[TransformedSet]:
        sweep = TRANSFORMS[family].sweep()
        with scout.run.progress.bar(f" {family}", len(sweep)) as advance:
            return [scout.cheap(transform, advance) for transform in sweep]

    @staticmethod
    def _verify(scout: Scout, family: str, chosen: TransformedSet | None) -> Family:
        """Run the audit attack on the family's worst harmless transform and on its control."""
        if chosen is None or chosen.transform is None:
            return Family(family, None, None)
        control = Control(chosen.transform)
        return Family(family, scout.strong(chosen.transform), scout.strong(control))


def _plain(value: float) -> float:
    """Return the value without the last binary digits, which would be in names and hashes."""
    return round(value, 6) + 0.0  # -0.0 is another name for 0.0
