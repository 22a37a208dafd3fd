"""The input times its gradient."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from scotoma.attribution.method import Attribution, Score
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class InputXGradient(Attribution):
    """The way from the baseline times the gradient at its end (Shrikumar et al. 2016), in one pass.

    "Input" is what the baseline is zero of: with "black" the image itself, with the data's channel means the standardised image.
    """

    def explain(self, score: Score, images: Tensor, origin: Tensor, random: Randomness) -> Tensor:
        from captum.attr import InputXGradient

        method = InputXGradient(lambda moved: score(moved + origin))
        return method.attribute((images - origin).requires_grad_())
