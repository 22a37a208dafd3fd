"""Checks of the masking probe: image by image, whether a gradient is useful."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scotoma.utils.stats import Rate, paired_difference, rate, z_of

TOLERATED = 0.05
"""Share of images that may fail a check, because attacks are not exact."""
NOTABLE = 0.2
"""Fraction of the tolerated share above which failing images are worth a word."""
OVERSHOOT = 0.15
"""Share of images that may fail a check of single steps or a comparison with the audit attack.

Single steps overshoot at a large eps in sound networks too: at most 12% of the images fail for
natural networks on MNIST, 24% and more for masked gradients (docs/log.md). The audit attack
searches longer: it fools up to 15% more images of a natural network on MNIST, half of all images
more if the loss is flat inside the ball.
"""


@dataclass(frozen=True)
class Check:
    """One check on the images that are classified correctly.

    Args:
        name: what is true if the check is passed.
        failing: whether each image fails it, bool (n,).
        excused: whether each image is evidence for the model in the same comparison, bool (n,);
            subtracted from those that fail. None if each image is its own test.
        tolerated: share of images that may fail.
        of: number of checks whose intervals hold at once with 95% (Bonferroni).
    """

    name: str
    failing: np.ndarray
    excused: np.ndarray | None = None
    tolerated: float = TOLERATED
    of: int = 1

    @property
    def share(self) -> Rate:
        """Share of images that fail, less those excused."""
        if self.excused is None or not len(self.failing):
            return rate(self.failing, self.of)
        return Rate(*paired_difference(self.failing, self.excused, z=z_of(self.of)))

    @property
    def passed(self) -> bool:
        """Whether the noise of the attacks explains the images that fail."""
        return not self.share.low > self.tolerated

    @property
    def notable(self) -> bool:
        """Whether more than a few images fail, but not so many that the check fails."""
        return self.share.low > NOTABLE * self.tolerated


def at_least(
    name: str, strong: np.ndarray, weak: np.ndarray, tolerated: float = TOLERATED
) -> Check:
    """Check that the strong attack fools every image that the weak one fools; both bool (n,)."""
    return Check(name, weak & ~strong, tolerated=tolerated)


def not_behind(
    name: str, own: np.ndarray, other: np.ndarray, tolerated: float = OVERSHOOT
) -> Check:
    """Check that the own gradient fools as many images as an attack of equal cost; bool (n,)."""
    return Check(name, other & ~own, own & ~other, tolerated)


def never_falls(name: str, broken: list[np.ndarray], tolerated: float = TOLERATED) -> Check:
    """Check that more size or steps never lose a success; bool (n,) each, in ascending order."""
    failing = np.zeros(len(broken[0]), dtype=bool)
    before = np.zeros_like(failing)
    for each in broken:
        failing |= before & ~each
        before |= each
    return Check(name, failing, tolerated=tolerated)
