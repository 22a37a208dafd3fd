"""Rates on generated images beside those on the test set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from torch import Tensor

from scotoma.execution import records as rec
from scotoma.execution.run import Run
from scotoma.results.ledger import Ledger
from scotoma.threat import Threat
from scotoma.utils.stats import Estimate, Rate, difference, rate
from scotoma.validity import Validity
from scotoma.validity.oracle import Calibration


@dataclass(frozen=True)
class GeneratedSet:
    """Generated images, what the oracle says of them, and the attacks on the valid ones.

    Args:
        images: (n, c, h, w).
        labels: the classes that they are to show, int64 (n,).
        validity: what the oracle says.
        run: the run on the images that are attacked, None before it.
        starts: the generated image that each search started from, int64 (n,).
        copies: how many more images were generated that equal one of these.
    """

    images: Tensor
    labels: Tensor
    validity: Validity
    run: Run | None = None
    starts: Tensor | None = None
    copies: int = 0

    @property
    def valid(self) -> Rate:
        return rate(self.validity.valid.numpy())

    @cached_property
    def rows(self) -> pl.DataFrame:
        """What the attacks found on the valid images; `index` is the number of the image."""
        return Ledger.of([]).table if self.run is None else self.run.ledger.rows()

    @property
    def accuracy(self) -> Rate:
        """The model's accuracy on valid images."""
        return rate(rec.is_correct(self.rows))

    def success(self, threat: Threat) -> Rate:
        """Attack success rate on the valid images that are classified correctly."""
        return rate(rec.successes(self.rows, threat.eps, threat.norm))

    def is_fooled(self, threat: Threat) -> np.ndarray:
        """Return which attacked images the model gets wrong, with an attack or without, bool."""
        return ~rec.is_correct(self.rows) | rec.fallen(self.rows, threat.eps, threat.norm)


@dataclass(frozen=True)
class Controls:
    """Test images among those that people judge, one half of them with wrong labels."""

    images: Tensor
    labels: Tensor
    """What they are said to show."""
    wrong: Tensor
    """Whether that is wrong, bool (n,)."""
    validity: Validity


@dataclass(frozen=True)
class Results:
    """All that the probe measured.

    Args:
        threat: norm and eps of the claim.
        generator: its name.
        generated: the generated images.
        searched: the ends of the latent search from each valid one, if there was a search.
        real: what the oracle says of the audited test images.
        contrast: mean standard deviation of the pixels of a generated image over that of a real
            one.
        calibration: what the oracle does with real images.
        controls: test images for people.
        classes: names of the classes.
    """

    threat: Threat
    generator: str
    generated: GeneratedSet
    searched: GeneratedSet | None
    real: Validity
    contrast: float
    calibration: Calibration
    controls: Controls
    classes: tuple[str, ...]

    @property
    def success(self) -> Rate:
        return self.generated.success(self.threat)

    @property
    def unrestricted(self) -> Rate | None:
        """Share of searches from a correct image that end at a valid, misclassified one."""
        return None if self.searched is None else rate(self._ends(self.searched)[0])

    @property
    def with_search(self) -> Rate | None:
        """Share of correct valid starts that are fooled within eps, or whose end is.

        An end counts if it is valid, and is misclassified or attacked within eps.
        """
        return None if self.searched is None else rate(self._ends(self.searched)[1])

    def _ends(self, ends: GeneratedSet) -> tuple[np.ndarray, np.ndarray]:
        """Return which correct starts have a misclassified end, and which are fooled, bool each."""
        assert ends.starts is not None
        total, starts = len(self.generated.labels), ends.starts.numpy()
        correct, fooled_starts = np.zeros(total, bool), np.zeros(total, bool)
        correct[rec.correct(self.generated.rows)["index"].to_numpy()] = True
        fooled_starts[self.generated.rows["index"].to_numpy()] = self.generated.is_fooled(
            self.threat
        )
        misclassified, fooled = (np.zeros(len(ends.labels), bool) for _ in range(2))
        rows = ends.rows["index"].to_numpy()
        misclassified[rows] = ~rec.is_correct(ends.rows)
        fooled[rows] = ends.is_fooled(self.threat)
        correct_starts = correct[starts]
        return misclassified[correct_starts], (fooled | fooled_starts[starts])[correct_starts]

    def gap(self, base: Rate) -> Estimate:
        """Return success on valid generated images less that on the test set."""
        return difference(self.success, base)
