"""Measurements of the masking probe, and the checks on them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from scotoma.attacks.adaptive.plan import CLEAN, Plan
from scotoma.claim import Claim
from scotoma.metrics.linearity import Linearity
from scotoma.probes.masking.checks import (
    OVERSHOOT,
    TOLERATED,
    Check,
    at_least,
    never_falls,
    not_behind,
)

FLAGS = ("missing", "zero", "broken", "flat", "saturated", "randomised")
"""Defects of a gradient, see `metrics.health`.

"flat": the gradient of the cross-entropy is exactly 0, that of the margin is not. "saturated": the
gradient is tiny but still leads to examples; sound networks have such gradients.
"""
IN_PLANES = 25
"""Images around which orthogonal directions are counted, at 220 forward passes each."""
LINES = 20
"""Lines of the grid of the loss on either side of the image, at (2 x 20 + 1)^2 forward passes."""


@dataclass(frozen=True)
class Evidence:
    """Measurements on the n correctly classified images; arrays are bool (n,), fooled or not."""

    claim: Claim
    index: np.ndarray
    """int64 (n,): numbers of the test images"""
    fooled: dict[str, np.ndarray]
    """By attack within eps: "single step", "random step first", "iterated" (I-FGSM or PGD), "many
    restarts" (these or PGD with more starts), "random search", "the audit's own", "transferred",
    and "transferred single step" of the best source."""
    by_size: dict[float, np.ndarray]
    """ascending; the last ball contains every image"""
    by_steps: dict[int, np.ndarray]
    linearity: Linearity
    random: np.ndarray
    """the loss after a random step of the same size as the single step's, float (n,)"""
    gradients: pl.DataFrame
    """columns `FLAGS` (bool), and cross_entropy, margin (L2 norms of gradients)"""
    orders: tuple[int, ...]
    """numbers of orthogonal directions that were tried"""
    subspace: np.ndarray
    """int64 (at most `IN_PLANES`, orders): adversarial directions of each order, by image"""
    drawn: int
    """the test image around which the loss is drawn"""
    surfaces: dict[str, pl.DataFrame]
    """columns e1, e2, loss; "wide" and "close" """
    sources: tuple[str, ...]
    plan: Plan = CLEAN
    """how the audit attack adapted to the model"""
    tolerated: float = TOLERATED
    overshoot: float = OVERSHOOT
    """shares of images that may fail, see `checks`"""

    def checks(self) -> list[Check]:
        """Return the checks that a useful gradient passes."""
        fooled, flags = self.fooled, {name: self.gradients[name].to_numpy() for name in FLAGS}
        unusable = flags["missing"] | flags["zero"] | flags["broken"]
        weaker = self.linearity.single.numpy() < self.random
        one, gradient = fooled["single step"], fooled["many restarts"]
        beyond = fooled["the audit's own"] & ~gradient
        largest = max(self.by_size)
        few, some = self.tolerated, self.overshoot
        checks = [
            Check("A gradient reaches the image", unusable, tolerated=few),
            Check("The loss has a gradient where the margin has one", flags["flat"], tolerated=few),
            Check("The same image has the same gradient twice", flags["randomised"], tolerated=few),
            Check("A gradient step raises the loss more than a random one", weaker, tolerated=some),
            not_behind(
                "A random step first does not help a single step",
                one,
                fooled["random step first"],
                some,
            ),
            at_least("Many steps break what one breaks", gradient, one, few),
            at_least(
                "Gradients break what random search breaks", gradient, fooled["random search"], few
            ),
            Check(
                "Steps inside the ball break most of what the audit's own attack breaks",
                beyond,
                tolerated=some,
            ),
        ]
        if self.sources:
            checks += [
                at_least(
                    "Its own gradient breaks what other models' examples break",
                    gradient,
                    fooled["transferred"],
                    few,
                ),
                not_behind(
                    "Its own single step breaks as much as another model's",
                    one,
                    fooled["transferred single step"],
                    some,
                ),
            ]
        sizes, steps = list(self.by_size.values()), list(self.by_steps.values())
        checks += [
            never_falls("Success does not fall as eps grows", sizes, few),
            # the first is a single step
            never_falls("Success does not fall with more steps", steps, some),
            Check(f"At eps {largest:g} everything breaks", ~self.by_size[largest], tolerated=few),
        ]
        return [replace(check, of=len(checks)) for check in checks]
