"""What was measured by the transfer probe: every attack on every source, shown to every target."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from scotoma.execution.run import Attack
from scotoma.models.classifier import Classifier
from scotoma.probes.transfer.sources import Source, is_held_out
from scotoma.utils.stats import Rate, rate


@dataclass(frozen=True)
class Maker:
    """A model that examples are made on: the audited one, a source, or several sources as one, its `members`."""

    model: Classifier
    members: tuple[Classifier, ...]

    def is_held_out(self, target: Classifier) -> bool:
        """Whether `target` is none of its members and saw none of them in its training."""
        return all(is_held_out(target, member) for member in self.members)


@dataclass(frozen=True)
class Cell:
    """What the examples of one attack on one source do to one target; arrays have one entry for each audited image."""

    target: str
    source: str
    attack: str
    held_out: bool
    right: np.ndarray
    """bool: the target classifies the image correctly"""
    fell: np.ndarray
    """bool: and the example, inside the threat, not"""
    answer: np.ndarray
    """what the target takes the example for"""

    @cached_property
    def success(self) -> Rate:
        return rate(self.fell[self.right])


@dataclass(frozen=True)
class Matrix:
    """Everything that was measured. `cells` begin with those of the audited model as target."""

    sources: tuple[Source, ...]
    makers: dict[str, Maker]
    cells: list[Cell]
    white: pl.DataFrame
    """records of the attack that sees the audited model"""
    white_attack: str
    """its name"""
    attacks: dict[str, Attack]
    """whose examples are transferred"""
