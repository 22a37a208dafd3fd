"""What a blind spot is: a harmless transform after which the model is much less robust.

Every threshold of the blind-spot probes stands here, with its reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scotoma.utils.stats import paired_difference

HARMLESS = 0.01
"""Accuracy that a harmless transform may cost: about what two training runs differ by, and what
Zhang et al. 2019 allow (Tables 2 and 3)."""
FALL = 0.1
"""Fall of robust accuracy that counts. A network that standardises each image cannot see a change
of contrast, but it loses 5.5 points at alpha·eps (digits): black and white become grey, so that a
perturbation has room on both sides."""
BROKEN = 0.5
"""Success rate above which the claim is void: most images are fooled."""
SCREENED = 200
"""Most test images classified for each audited one. The audit attack takes several times as many
passes, so that the accuracy of a slow model costs little beside it."""
REJECTED = 0.05
"""Share of the images that the validity oracle may reject after a valid transform, of those that it
accepts unchanged: it also rejects some 2% (MNIST) to 17% (Fashion-MNIST) of real test images."""

SCALED = (
    "Success after a transform is at the scaled budget alpha·eps, where alpha is the share of the "
    "contrast that it leaves (1 for one that leaves black and white as they are)."
)


def points(share: float) -> str:
    """Return a difference of rates in words.

    >>> points(0.01), points(0.025)
    ('1 point', '2.5 points')
    """
    return f"{100 * share:g} point{'' if math.isclose(share, 0.01) else 's'}"


@dataclass(frozen=True)
class Limits:
    """The thresholds that a claim may set.

    Args:
        harmless: accuracy that a harmless transform may cost.
        fall: fall of robust accuracy that makes one a blind spot.
        broken: success rate above which the claim is void.
    """

    harmless: float = HARMLESS
    fall: float = FALL
    broken: float = BROKEN

    @property
    def is_harmless(self) -> str:
        """What a harmless transform is."""
        return (
            f"A transform is harmless if it costs at most {points(self.harmless)} of accuracy by "
            "the 95% interval of the paired difference over the whole test set (at most "
            f"{SCREENED} test images for each audited one)."
        )

    @property
    def rule(self) -> str:
        """How `verdict` decides."""
        return (
            f"{self.is_harmless} {SCALED} Weak: under a harmless transform robust accuracy is more "
            f"than {points(self.fall)} below that of the same images before it. Broken: also, more "
            f"than {self.broken:.0%} of the correctly classified images are fooled. Each has to "
            "follow from 95% intervals that hold for all harmless transforms at once. Undecided: "
            "no transform is shown to be harmless, or a fall is measured that would be weak but "
            f"does not follow, or an interval reaches falls of more than {points(self.broken)}. "
            "Otherwise it holds. Not applicable: the 95% interval of the success rate on the test "
            f"set itself lies above {self.broken:.0%}."
        )


LIMITS = Limits()


def enough(n: int, limits: Limits = LIMITS) -> bool:
    """Return whether n images can show that a transform is harmless, if it changes no prediction.

    >>> enough(200), enough(300)
    (False, True)
    """
    return paired_difference(np.ones(n), np.ones(n)).high <= limits.harmless
