"""Success of transferred examples on the audited model, image by image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scotoma.claim import Claim
from scotoma.execution import records as rec
from scotoma.probes.transfer.matrix import Cell, Matrix
from scotoma.utils.stats import Rate, rate

MISLED = 0.01
"""Share of images fooled by transferred examples alone beyond which gradients mislead attacks."""

ANY = "any of them"


@dataclass(frozen=True)
class TransferAnalysis:
    """Results for the audited model; arrays have one entry for each audited image."""

    claim: Claim
    matrix: Matrix

    @cached_property
    def own(self) -> list[Cell]:
        """Cells whose target is the audited model."""
        return [cell for cell in self.matrix.cells if cell.target == self.claim.model.name]

    @cached_property
    def foreign(self) -> list[Cell]:
        """Cells of other sources, used in training or not."""
        audited = self.claim.model.sha256
        others = [
            name
            for name, maker in self.matrix.makers.items()
            if audited not in {model.sha256 for model in maker.members}
        ]
        return [cell for cell in self.own if cell.source in others]

    @cached_property
    def held_out(self) -> list[Cell]:
        return [cell for cell in self.own if cell.held_out]

    @cached_property
    def correct(self) -> np.ndarray:
        """Whether each image is classified correctly before any attack."""
        white = (self.matrix.white["prediction"] == self.matrix.white["label"]).to_numpy()
        return self.own[0].correct & white

    @cached_property
    def white(self) -> np.ndarray:
        """Whether the white-box attack fools each image."""
        return rec.fallen(self.matrix.white, self.claim.threat.eps, self.claim.threat.norm)

    @cached_property
    def black(self) -> np.ndarray:
        """Whether an example made on a held-out model fools each image."""
        return self.union(self.held_out)

    @cached_property
    def others(self) -> np.ndarray:
        """Whether an example made on any other model fools each image."""
        return self.union(self.foreign)

    @cached_property
    def only(self) -> np.ndarray:
        """Whether only such an example fools each image, and not the white-box attack."""
        return self.others & ~self.white

    @property
    def success(self) -> Rate:
        return self.share(self.black)

    @property
    def is_misled(self) -> bool:
        return bool(self.share(self.only).low > MISLED)

    @cached_property
    def strongest(self) -> Cell:
        return max(self.held_out, key=lambda cell: cell.success.value)

    @cached_property
    def weakest(self) -> Cell:
        return min(self.held_out, key=lambda cell: cell.success.value)

    def share(self, fooled: np.ndarray) -> Rate:
        """Return a rate among the images that are classified correctly."""
        return rate(fooled[self.correct])

    def standing(self, *fooled: np.ndarray) -> Rate:
        """Return the share of all images that are classified correctly and not fooled."""
        return rate(self.correct & ~np.any(fooled, axis=0))

    def union(self, cells: list[Cell]) -> np.ndarray:
        """Return whether at least one of the cells fools each image."""
        return (
            np.any([cell.fooled for cell in cells], axis=0)
            if cells
            else np.zeros_like(self.correct)
        )
