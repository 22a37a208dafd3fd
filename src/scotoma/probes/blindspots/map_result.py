"""What a search for blind spots found: the worst harmless transform of each family."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from scotoma.execution.run import Transform
from scotoma.probes.blindspots.search import Visit
from scotoma.probes.blindspots.transformed import TransformedSet
from scotoma.results.ledger import Ledger

PLANE = "scale-shift"
"""The family that is searched over a plane, (alpha, beta)."""
COMPOSED = "composed"
"""The compositions of all families."""


@dataclass(frozen=True)
class Family:
    """A family's worst harmless transform.

    Args:
        name: of the family.
        chosen: the transform on the images that it was chosen on, under the cheap attack; None if
            no transform of the family is harmless.
        worst: the same transform on the other images, under the audit attack.
        control: its random control there.
    """

    name: str
    chosen: TransformedSet | None = None
    worst: TransformedSet | None = None
    control: TransformedSet | None = None

    @property
    def transform(self) -> Transform | None:
        return self.worst and self.worst.transform


@dataclass(frozen=True)
class SearchResult:
    """All transforms that were attacked.

    Args:
        base: the test set itself, under the audit attack.
        chosen_on: images that transforms are chosen on.
        held_out: images that they are reported on.
        families: with their worst transforms.
        plane: cells of the (alpha, beta) grid, under the cheap attack.
        refined: cells between those, under the cheap attack.
        sweeps: strengths of the other families, under the cheap attack.
        visits: points of the search over compositions.
    """

    base: TransformedSet
    chosen_on: list[int]
    held_out: list[int]
    families: list[Family] = field(default_factory=list)
    plane: list[TransformedSet] = field(default_factory=list)
    refined: list[TransformedSet] = field(default_factory=list)
    sweeps: dict[str, list[TransformedSet]] = field(default_factory=dict)
    visits: list[Visit] = field(default_factory=list)

    @property
    def verified(self) -> list[TransformedSet]:
        """The worst harmless transform of each family that has one."""
        return [family.worst for family in self.families if family.worst]

    @property
    def valid(self) -> list[TransformedSet]:
        """Transforms of `verified` whose images are valid; the verdict rests on them."""
        return [each for each in self.verified if each.is_valid]

    def with_ledger(self, ledger: Ledger) -> SearchResult:
        """Return the result with the smallest perturbations that any attack of the audit gave.

        The result covers the held-out images. The cells of the search keep the records of the cheap
        attack, by which they are compared.
        """
        reported = ledger.on(self.held_out)
        families = [
            replace(
                each,
                worst=each.worst and each.worst.with_ledger(reported),
                control=each.control and each.control.with_ledger(reported),
            )
            for each in self.families
        ]
        return replace(self, base=self.base.with_ledger(reported), families=families)

    @property
    def lowest(self) -> Family | None:
        """The family with the lowest robust accuracy on the images that transforms are chosen on.

        The transform itself is the worst of those on which the audit attack was run.
        """
        ranked = (each for each in self.families if each.chosen and each.worst)
        return min(ranked, key=_chosen, default=None)


def _chosen(family: Family) -> tuple[float, float]:
    assert family.chosen is not None
    return family.chosen.robust_scaled.value, family.chosen.change
