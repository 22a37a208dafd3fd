"""The named checks of the masking probe: each says of every image whether a gradient did what an honest one does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scotoma.utils.stats import Z95, Rate, rate

TOLERATED = 0.05
"""Share of images that may fail a check: attacks are not exact, and a step more or another start breaks other images."""
NOTABLE = 0.01
OVERSHOOT = 0.15
"""The same for single steps, which overshoot at a large eps in sound networks too: at most 12% of the images fail in natural
ones on MNIST, 24% and more where gradients are masked (docs/log.md). And beside the audit's own attack, which searches longer: it
breaks up to 15% more in a natural network on MNIST, half of all images more where a ball is flat inside."""


@dataclass(frozen=True)
class Check:
    """One check on the images that the model has right.

    Args:
        name: what holds if it is passed.
        failing: which images fail it, bool (n,).
        excused: images that speak for the model in the same comparison, bool (n,); they are set off against those that fail.
            None where each image is its own test.
        tolerated: the share that may fail.
    """

    name: str
    failing: np.ndarray
    excused: np.ndarray | None = None
    tolerated: float = TOLERATED

    @property
    def share(self) -> Rate:
        """The share of images that fail it, less those excused, with its interval (Wilson's, or Wald's for paired shares)."""
        if self.excused is None or not len(self.failing):
            return rate(self.failing)
        n, worse, better = len(self.failing), self.failing.mean(), self.excused.mean()
        value = float(worse - better)
        half = Z95 * math.sqrt(max(worse + better - value**2, 0.0) / n)
        return Rate(value, max(-1.0, value - half), min(1.0, value + half), n)

    @property
    def passed(self) -> bool:
        """Whether so few images fail it that the attacks' noise explains them."""
        return not self.share.low > self.tolerated

    @property
    def notable(self) -> bool:
        """Whether more images fail it than a few, though not so many that it fails."""
        return self.share.low > NOTABLE * self.tolerated / TOLERATED


def at_least(name: str, strong: np.ndarray, weak: np.ndarray) -> Check:
    """What the weak attack breaks the strong one must break, image by image; both bool (n,)."""
    return Check(name, weak & ~strong)


def not_behind(name: str, own: np.ndarray, other: np.ndarray) -> Check:
    """Of two attacks of equal cost the model's own gradient breaks no fewer images in all; both bool (n,)."""
    return Check(name, other & ~own, own & ~other, OVERSHOOT)


def never_falls(name: str, broken: list[np.ndarray]) -> Check:
    """What breaks at one size or number of steps breaks at every larger one; bool (n,) each, in ascending order."""
    failing = np.zeros(len(broken[0]), dtype=bool)
    before = np.zeros_like(failing)
    for each in broken:
        failing |= before & ~each
        before |= each
    return Check(name, failing)
