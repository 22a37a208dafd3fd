"""Rates on generated images beside those on the test set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from torch import Tensor

from scotoma.claim import Threat
from scotoma.execution import records as rec
from scotoma.execution.run import Run
from scotoma.results.ledger import Ledger
from scotoma.utils.stats import Estimate, Rate, difference, rate
from scotoma.validity import Validity
from scotoma.validity.oracle import Calibration


@dataclass(frozen=True)
class Made:
    """Generated images, what the oracle says of them, and the attacks on the valid ones.

    Args:
        images: (n, c, h, w).
        labels: the classes that they are to show, int64 (n,).
        validity: what the oracle says.
        run: the run on the valid images, None before it.
        margins: the model's margin at the end of a latent search, (n,).
        starts: the generated image that each search started from, int64 (n,).
    """

    images: Tensor
    labels: Tensor
    validity: Validity
    run: Run | None = None
    margins: np.ndarray | None = None
    starts: Tensor | None = None

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
        return rate((self.rows["prediction"] == self.rows["label"]).to_numpy())

    def success(self, threat: Threat) -> Rate:
        """Attack success rate on the valid images that are classified correctly."""
        return rate(rec.successes(self.rows, threat.eps, threat.norm))

    def fooled(self, threat: Threat) -> Rate:
        """Share of valid images that the model gets wrong, with an attack or without."""
        return rate(self.is_fooled(threat))

    def is_fooled(self, threat: Threat) -> np.ndarray:
        wrong = (self.rows["prediction"] != self.rows["label"]).to_numpy()
        return wrong | rec.fallen(self.rows, threat.eps, threat.norm)


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
class Measured:
    """All that the probe measured.

    Args:
        threat: norm and eps of the claim.
        generator: its name.
        made: the generated images.
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
    made: Made
    searched: Made | None
    real: Validity
    contrast: float
    calibration: Calibration
    controls: Controls
    classes: tuple[str, ...]

    @property
    def success(self) -> Rate:
        return self.made.success(self.threat)

    @cached_property
    def unrestricted(self) -> Rate | None:
        """Share of the searches from a correct image that end at a valid, misclassified one."""
        found = self.searched
        if found is None or found.starts is None:
            return None
        wrong = found.rows.filter(pl.col("prediction") != pl.col("label"))["index"].to_numpy()
        ends = np.zeros(len(found.labels), bool)
        ends[wrong] = True
        return rate(ends[self._correct_starts(found)])

    @cached_property
    def with_search(self) -> Rate | None:
        """Share of correct valid starts that an attack, the search, or both together break.

        A search counts if its end is valid, and is misclassified or attacked within eps.
        """
        found = self.searched
        if found is None or found.starts is None:
            return None
        broken = np.zeros(len(found.labels), bool)
        broken[found.rows["index"].to_numpy()] = found.is_fooled(self.threat)
        plain = np.zeros(len(self.made.labels), bool)
        plain[self.made.rows["index"].to_numpy()] = self.made.is_fooled(self.threat)
        either = broken | plain[found.starts.numpy()]
        return rate(either[self._correct_starts(found)])

    def _correct_starts(self, found: Made) -> np.ndarray:
        """Return which searches began at an image that is classified correctly, bool."""
        correct = np.zeros(len(self.made.labels), bool)
        correct[rec.correct(self.made.rows)["index"].to_numpy()] = True
        assert found.starts is not None
        return correct[found.starts.numpy()]

    def gap(self, base: Rate) -> Estimate:
        """Return success on valid generated images less that on the test set."""
        return difference(self.success, base)
