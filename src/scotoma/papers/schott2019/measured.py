"""What attacks of every kind find on one of the models, in three norms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scotoma.execution.run import Run
from scotoma.models.synthesis import inside
from scotoma.papers.item import Context
from scotoma.papers.schott2019 import drawn, published
from scotoma.probes.norms.analysis import Reading
from scotoma.probes.norms.gradients import Gradients
from scotoma.probes.norms.probe import Norms

QUERIES = 2000
"""An image, of decision-based attacks."""
FEWER = 250
"""The same on analysis by synthesis, one forward pass of which is a search."""


@dataclass(frozen=True)
class Measured:
    """A model's readings by norm, on the same images in the same order for all models."""

    model: str
    run: Run
    readings: dict[str, Reading]
    gradients: Gradients
    queries: int

    @property
    def right(self) -> np.ndarray:
        """bool: correct without an attack"""
        return next(iter(self.readings.values())).right


def measure(context: Context, model: str) -> Measured:
    """Attack a reference model with all that the norms probe tries."""
    run = drawn(context, model)
    slow = inside(run.claim.model.module) is not None
    queries = FEWER if slow else QUERIES
    readings, gradients = Norms(bounds=tuple(published.BOUNDS.values()), queries=queries).readings(
        run.claim, run
    )
    return Measured(model, run, readings, gradients, queries)
