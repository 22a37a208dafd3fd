"""The verdict on errors at the most important places, beside those at random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scotoma.probes.inequality.analysis import FEW_PIXELS, FEW_VALUES, Cell
from scotoma.results.finding import Verdict
from scotoma.utils.text import percentage


@dataclass(frozen=True)
class Limits:
    """The thresholds that a claim may set.

    Args:
        broken: error at important places that breaks the claim, since most images are then
            misclassified.
        wide: gap to random places that must come with it, since noise and occlusion cost every
            network some images.
        narrow: gap below which importance hardly matters.
    """

    broken: float = 0.5
    wide: float = 0.25
    narrow: float = 0.15

    @property
    def rule(self) -> str:
        """How `verdict` decides."""
        return (
            f"for noise on one value or at most {FEW_VALUES:.1%} of them, and occlusions of at "
            f"most {FEW_PIXELS:.0%} of the pixels, at the most important and at random places, "
            "with the gap as the difference of the two errors: broken if one error at important "
            f"places lies above {percentage(self.broken)} and its gap above {100 * self.wide:.0f} "
            "points, both with intervals that hold for all these changes at once with 95%; holds "
            f"if the 95% intervals of all gaps lie below {100 * self.narrow:.0f} points; weak if "
            "one gap lies above 0, with an interval that holds for all at once; else undecided"
        )

    def verdict(self, cells: Sequence[Cell]) -> Verdict:
        """Return the verdict of `rule`."""
        few = [cell for cell in cells if cell.few]
        if any(self.breaks(cell, len(few)) for cell in few):
            return "broken"
        if all(cell.gap.high < self.narrow for cell in few):
            return "holds"
        return "weak" if any(cell.gap_of(len(few)).low > 0 for cell in few) else "undecided"

    def breaks(self, cell: Cell, of: int) -> bool:
        """Return whether a cell, one of `of` that could, breaks the claim."""
        error, gap = cell.error("importance", of), cell.gap_of(of)
        return error.low > self.broken and gap.low > self.wide

    def strongest(self, cells: Sequence[Cell]) -> Cell:
        """Return the widest gap with few places, among those that break the claim if any do."""
        few = [cell for cell in cells if cell.few]
        return max(few, key=lambda cell: (self.breaks(cell, len(few)), cell.gap.value))
