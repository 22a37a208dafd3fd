"""Results of the transfer probe: every attack on every source, shown to every target."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from scotoma.claim import Claim
from scotoma.execution import records as rec
from scotoma.execution.run import Attack
from scotoma.models.classifier import Classifier
from scotoma.probes.transfer.sources import Source, is_held_out
from scotoma.utils.stats import Rate, rate

MISLED = 0.01
"""Gradients mislead if transferred examples alone fool more than this share of images."""

ANY = "any of them"


@dataclass(frozen=True)
class Maker:
    """A model on which examples are made: the audited one, a source, or several as one."""

    model: Classifier
    members: tuple[Classifier, ...]

    def is_held_out(self, target: Classifier) -> bool:
        """Return whether `target` is no member and no member was used in its training."""
        return all(is_held_out(target, member) for member in self.members)


@dataclass(frozen=True)
class Cell:
    """The examples of one attack on one source, shown to one target; arrays are (n,)."""

    target: str
    source: str
    attack: str
    held_out: bool
    correct: np.ndarray
    """bool: whether the target classifies the image correctly"""
    fooled: np.ndarray
    """bool: whether the example, inside the threat, fools it as well"""
    prediction: np.ndarray
    """int64: the prediction on the example"""

    @cached_property
    def success(self) -> Rate:
        return rate(self.fooled[self.correct])


@dataclass(frozen=True)
class Matrix:
    """All results, and those for the audited model; arrays have one entry for each audited image.

    `cells` begin with those of the audited model as target.
    """

    claim: Claim
    sources: tuple[Source, ...]
    makers: dict[str, Maker]
    cells: list[Cell]
    white_records: pl.DataFrame
    """records of the white-box attack on the audited model"""
    white_attack: str
    """name of that attack"""
    attacks: dict[str, Attack]
    """attacks whose examples are transferred"""

    @cached_property
    def audited_cells(self) -> list[Cell]:
        """Cells whose target is the audited model."""
        return [cell for cell in self.cells if cell.target == self.claim.model.name]

    @cached_property
    def foreign(self) -> list[Cell]:
        """Cells of other sources, used in training or not."""
        audited = self.claim.model.sha256
        others = [
            name
            for name, maker in self.makers.items()
            if audited not in {model.sha256 for model in maker.members}
        ]
        return [cell for cell in self.audited_cells if cell.source in others]

    @cached_property
    def held_out(self) -> list[Cell]:
        return [cell for cell in self.audited_cells if cell.held_out]

    @cached_property
    def correct(self) -> np.ndarray:
        """Whether each image is classified correctly before any attack."""
        return self.audited_cells[0].correct & rec.is_correct(self.white_records)

    @cached_property
    def white(self) -> np.ndarray:
        """Whether the white-box attack fools each image."""
        return rec.fallen(self.white_records, self.claim.threat.eps, self.claim.threat.norm)

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

    def share(self, fooled: np.ndarray) -> Rate:
        """Return a rate among the images that are classified correctly."""
        return rate(fooled[self.correct])

    def standing(self, *fooled: np.ndarray) -> Rate:
        """Return the share of all images that are classified correctly and not fooled."""
        return rate(self.correct & ~np.any(fooled, axis=0))

    def union(self, cells: list[Cell]) -> np.ndarray:
        """Return whether at least one of the cells fools each image."""
        if not cells:
            return np.zeros_like(self.correct)
        return np.any([cell.fooled for cell in cells], axis=0)
