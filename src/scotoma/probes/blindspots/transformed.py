"""Changed images under attack: what the blind-spot map chooses from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import torch

from scotoma.attacks.strong import SEARCHES
from scotoma.claim import Claim, Threat
from scotoma.execution import records as rec
from scotoma.execution.run import Attack, Run, Transform
from scotoma.probes.base import Settings
from scotoma.probes.blindspots.probe import HARMLESS
from scotoma.results.finding import Row
from scotoma.transforms.control import contrast
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.progress import Advance
from scotoma.utils.stats import Rate, rate


@dataclass(frozen=True)
class Spot:
    """A change of the images, attacked. alpha is the contrast that it leaves (`contrast`)."""

    transform: Transform | None
    """None is the test set itself."""
    change: float
    """mean absolute change of a pixel"""
    attack: Attack
    records: pl.DataFrame
    threat: Threat

    @property
    def eps(self) -> float:
        return self.threat.eps

    @property
    def contrast(self) -> float:
        return contrast(self.transform)

    @cached_property
    def accuracy(self) -> Rate:
        return rate((self.records["prediction"] == self.records["label"]).to_numpy())

    @cached_property
    def success(self) -> Rate:
        """at eps, of the images that are classified correctly"""
        return self._success(self.eps)

    @cached_property
    def scaled(self) -> Rate:
        """success at alpha·eps"""
        return self._success(self.contrast * self.eps)

    @cached_property
    def robust(self) -> Rate:
        """accuracy under attack at eps, of all images"""
        return self._robust(self.eps)

    @cached_property
    def robust_scaled(self) -> Rate:
        """the same at alpha·eps"""
        return self._robust(self.contrast * self.eps)

    def _success(self, size: float) -> Rate:
        return rate(rec.successes(self.records, size, self.threat.norm))

    def _robust(self, size: float) -> Rate:
        return rate(rec.beyond(self.records[self.threat.norm].to_numpy(), size))

    def fell(self, size: float) -> np.ndarray:
        """Which images fall to a perturbation of that size, bool."""
        return rec.fallen(self.records, size, self.threat.norm)

    def is_harmless(self, base: Spot) -> bool:
        """Whether it costs at most a point of the accuracy on the test set itself."""
        slack = 1e-9  # 0.96 - 0.01 is more than 0.95 in binary
        return self.success.n > 0 and self.accuracy.value >= base.accuracy.value - HARMLESS - slack

    def fallen(self) -> Row | None:
        """The record of the first image that falls at alpha·eps, else at eps, if any does."""
        for size in (self.contrast * self.eps, self.eps):
            rows = self.records.filter(self.fell(size))
            if len(rows):
                return rows.sort("index").row(0, named=True)
        return None


def cell(transform: Transform | None) -> tuple[float, float]:
    """(alpha, beta) of scale-shift."""
    return (transform.alpha, transform.beta) if isinstance(transform, ScaleShift) else (1.0, 0.0)


def worst(spots: Iterable[Spot], base: Spot) -> Spot | None:
    """The harmless change with the lowest robust accuracy at alpha·eps, the smallest of equals; None where none is harmless."""
    changed = (spot for spot in spots if spot.transform is not None and spot.is_harmless(base))
    return min(changed, key=lambda spot: (spot.robust_scaled.value, spot.change), default=None)


@dataclass(frozen=True)
class Scout:
    """Attacks changed images, cheaply or with the audit's attack.

    Args:
        steps: gradient steps of the cheap attack.
    """

    claim: Claim
    run: Run
    settings: Settings
    steps: int

    def cheap(self, transform: Transform | None, advance: Advance) -> Spot:
        """One minimum-norm search of a few steps, which leaves an image at alpha·eps: it serves both sizes."""
        threat = self.claim.threat
        search = SEARCHES[threat.norm](
            threat, steps=self.steps, restarts=0, until=contrast(transform) * threat.eps
        )
        spot = self._attack(search, transform)
        advance(1)
        return spot

    def strong(self, transform: Transform | None) -> Spot:
        """The audit's attack; on the test set itself as other probes run it."""
        until = contrast(transform) * self.claim.threat.eps if transform else 0.0
        return self._attack(self.settings.make_attack(self.claim.threat, until=until), transform)

    def _attack(self, attack: Attack, transform: Transform | None) -> Spot:
        frame = self.run.attack(attack, transform, what=f"  {transform or 'the test set itself'}")
        return Spot(
            transform,
            self._change(transform) if transform else 0.0,
            attack,
            frame,
            self.claim.threat,
        )

    def _change(self, transform: Transform) -> float:
        """Mean absolute change of a pixel over the audited images."""
        total = torch.zeros((), dtype=torch.float64)
        for indices in self.run.indices.split(self.run.batch_size):
            images = self.claim.data.test.images(indices)
            total += (transform(images) - images).abs().flatten(1).mean(1).double().sum()
        return float(total) / len(self.run.indices)
