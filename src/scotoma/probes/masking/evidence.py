"""What was measured by the masking probe, and the checks that it answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from scotoma.claim import Claim
from scotoma.metrics.linearity import Linearity
from scotoma.probes.masking.checks import OVERSHOOT, Check, at_least, never_falls, not_behind

FLAGS = ("missing", "zero", "broken", "flat", "saturated", "randomised")
"""What may be wrong with a gradient, see `gradients.health`. Flat is a cross-entropy's that is exactly 0 where the margin's is not;
one that is saturated leads to examples all the same, though not by the best way: sound networks have them."""
IN_PLANES = 200
"""Images in whose neighbourhood orthogonal directions are counted, at 220 forward passes each."""


@dataclass(frozen=True)
class Evidence:
    """What was measured on the n images that the model has right; arrays are bool (n,), who fell."""

    claim: Claim
    index: np.ndarray
    """which test images they are, int64 (n,)"""
    fell: dict[str, np.ndarray]
    """by attack within eps: "single step", "random step first", "iterated", "many restarts", "random search", "the audit's own",
    "transferred", and "transferred single step" of the source whose examples break most"""
    by_size: dict[float, np.ndarray]
    """ascending; in the last ball is every image"""
    by_steps: dict[int, np.ndarray]
    linearity: Linearity
    random: np.ndarray
    """the loss after a random step of the same size as the single step's, float (n,)"""
    gradients: pl.DataFrame
    """columns `FLAGS` (bool), and cross_entropy, margin (L2 norms of gradients)"""
    orders: tuple[int, ...]
    """numbers of orthogonal directions that were tried"""
    subspace: np.ndarray
    """how many of each were adversarial around the first images, int64 (at most `IN_PLANES`, orders)"""
    drawn: int
    """the test image around which the loss is drawn"""
    surfaces: dict[str, pl.DataFrame]
    """columns e1, e2, loss; "wide" and "close" """
    sources: tuple[str, ...]

    def checks(self) -> list[Check]:
        """What an honest gradient passes."""
        fell, flags = self.fell, {name: self.gradients[name].to_numpy() for name in FLAGS}
        gradient = fell["iterated"] | fell["many restarts"]
        checks = [
            Check(
                "A gradient reaches the image", flags["missing"] | flags["zero"] | flags["broken"]
            ),
            Check("The loss has a gradient where the margin has one", flags["flat"]),
            Check("The same image has the same gradient twice", flags["randomised"]),
            Check(
                "A gradient step raises the loss more than a random one",
                self.linearity.single.numpy() < self.random,
                tolerated=OVERSHOOT,
            ),
            not_behind(
                "A random step first does not help a single step",
                fell["single step"],
                fell["random step first"],
            ),
            at_least("Many steps break what one breaks", gradient, fell["single step"]),
            at_least("Gradients break what random search breaks", gradient, fell["random search"]),
            Check(
                "Steps inside the ball break most of what the audit's own attack breaks",
                fell["the audit's own"] & ~gradient,
                tolerated=OVERSHOOT,
            ),
        ]
        if self.sources:
            checks += [
                at_least(
                    "Its own gradient breaks what other models' examples break",
                    gradient,
                    fell["transferred"],
                ),
                not_behind(
                    "Its own single step breaks as much as another model's",
                    fell["single step"],
                    fell["transferred single step"],
                ),
            ]
        return [
            *checks,
            never_falls("Success does not fall as eps grows", list(self.by_size.values())),
            never_falls("Success does not fall with more steps", list(self.by_steps.values())),
            Check(
                f"At eps {max(self.by_size):g} everything breaks", ~self.by_size[max(self.by_size)]
            ),
        ]
