"""Results of the transfer probe: every attack on every source, shown to every target."""

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
    """All results; `cells` begin with those of the audited model as target."""

    sources: tuple[Source, ...]
    makers: dict[str, Maker]
    cells: list[Cell]
    white: pl.DataFrame
    """records of the white-box attack on the audited model"""
    white_attack: str
    """name of that attack"""
    attacks: dict[str, Attack]
    """attacks whose examples are transferred"""
