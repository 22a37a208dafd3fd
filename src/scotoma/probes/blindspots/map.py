"""Which harmless change of the images voids it most?"""

from __future__ import annotations

from dataclasses import dataclass

from scotoma.claim import TOLERANCE, Claim
from scotoma.execution.run import Run
from scotoma.probes.base import Probe, Settings
from scotoma.probes.blindspots import map_report
from scotoma.probes.blindspots.map_report import PLANE, Family, Found
from scotoma.probes.blindspots.probe import move
from scotoma.probes.blindspots.transformed import Scout, Spot, cell, worst
from scotoma.results.finding import Finding
from scotoma.transforms import TRANSFORMS
from scotoma.transforms.control import Control
from scotoma.utils.errors import InputError


@dataclass(frozen=True)
class BlindSpotMap(Probe):
    """A search for the harmless change with the lowest robust accuracy: Zhang et al. 2019, section 3.3, beyond their grid.

    A cheap attack meets every cell of the (alpha, beta) plane of scale-shift and every strength of the other families
    (its `sweep`). Round the worst harmless cell the plane is searched on finer grids. The worst harmless change of each
    family, and its random control, then meet the audit's attack.

    Args:
        families: names of `TRANSFORMS`.
        resolution: steps from alpha 1 down to `lowest`; those of beta are half as long and reach +-(1 - alpha) / 2.
        lowest: the smallest alpha, above 0.
        rounds: of refinement, each on half the spacing.
        steps: gradient steps of the cheap attack.

    Raises:
        InputError: a family that is unknown, or none.
    """

    families: tuple[str, ...] = tuple(TRANSFORMS)
    resolution: int = 5
    lowest: float = 0.5
    rounds: int = 2
    steps: int = 20

    question = "Which harmless change of the images voids it most?"

    def __post_init__(self):
        if not self.families:
            raise InputError(f"--families: none given; known: {', '.join(TRANSFORMS)}")
        for family in self.families:
            TRANSFORMS[family]

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Finding:
        found = self.search(Scout(claim, run, settings, self.steps))
        if found.base.success.n == 0:
            return map_report.nothing_right(self.question)
        return map_report.describe(found, self.question, run, settings.attack, self.steps)

    def search(self, scout: Scout) -> Found:
        """Everything attacked; nothing beyond the test set itself where the model is never right."""
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
                families.append(self._verify(scout, family, worst(tried, base)))
                advance(1)
        return Found(base, families, plane, refined, sweeps)

    def _grid(self) -> list[tuple[float, float]]:
        """(alpha, beta) with |beta| at most (1 - alpha) / 2: a triangle in which no pixel leaves the range."""
        step = self._step
        return [
            (_plain(1 - i * step), _plain(j * step / 2))
            for i in range(self.resolution + 1)
            for j in range(-i, i + 1)
        ]

    @property
    def _step(self) -> float:
        return (1 - self.lowest) / self.resolution

    def _plane(self, scout: Scout) -> list[Spot]:
        grid = self._grid()
        with scout.run.progress.bar(" plane", len(grid)) as advance:
            return [scout.cheap(move(*at), advance) for at in grid]

    def _refine(self, scout: Scout, plane: list[Spot], base: Spot) -> list[Spot]:
        """The neighbours of the worst harmless cell known, at a distance that halves in each round."""
        known, tried, step = set(self._grid()), [], self._step
        with scout.run.progress.bar(" refining", 8 * self.rounds) as advance:
            for _ in range(self.rounds):
                step /= 2
                centre = worst(plane + tried, base)
                if centre is None:
                    break
                alpha, beta = cell(centre.transform)
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
                tried += [scout.cheap(move(*at), advance) for at in inside if at not in known]
                known.update(inside)
        return tried

    @staticmethod
    def _sweep(scout: Scout, family: str) -> list[Spot]:
        sweep = TRANSFORMS[family].sweep()
        with scout.run.progress.bar(f" {family}", len(sweep)) as advance:
            return [scout.cheap(transform, advance) for transform in sweep]

    @staticmethod
    def _verify(scout: Scout, family: str, spot: Spot | None) -> Family:
        """The family's worst change and its control under the audit's attack."""
        if spot is None or spot.transform is None:
            return Family(family, None, None)
        return Family(family, scout.strong(spot.transform), scout.strong(Control(spot.transform)))


def _plain(value: float) -> float:
    """Without the last digits of binary fractions, which would be in names and hashes."""
    return round(value, 6) + 0.0  # -0.0 is another name for 0.0
