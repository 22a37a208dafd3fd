"""Integrated gradients, the attribution that Duan et al. 2023 measure with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from scotoma.attribution.method import Attribution, Score, at_once, check_count
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class IntegratedGradients(Attribution):
    """The gradient's mean on the way from the baseline, times the way (Sundararajan et al. 2017, eq. 1).

    Complete: a map sums to the label's logit at the image less that at the baseline, up to the error of the quadrature.

    Args:
        baseline: as in `Attribution`.
        steps: points of the Gauss-Legendre quadrature; each costs a forward and a backward pass.
    """

    steps: int = 50

    def __post_init__(self):
        super().__post_init__()
        check_count(self.steps, "steps")

    def explain(self, score: Score, images: Tensor, origin: Tensor, random: Randomness) -> Tensor:
        return integrate(score, images, origin, self.steps)


def integrate(score: Score, images: Tensor, origin: Tensor, steps: int) -> Tensor:
    """Integrated gradients (n, c, h, w) of at most `at_once` images, of which several steps go through the model together where
    there is room."""
    from captum.attr import IntegratedGradients

    method, most = IntegratedGradients(score), at_once(images)
    return method.attribute(images, origin, n_steps=steps, internal_batch_size=most)
