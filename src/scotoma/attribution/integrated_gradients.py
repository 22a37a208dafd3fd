"""Integrated gradients, the attribution that Duan et al. 2023 measure with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from scotoma.attribution.method import Attribution, Score, at_once, check_count
from scotoma.utils.optional import require
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class IntegratedGradients(Attribution):
    """The mean gradient on the path from the baseline to the image, times their difference.

    It is complete: a map sums to the label's logit at the image minus that at the baseline, up to
    the error of the quadrature.

    Args:
        baseline: see `Attribution`.
        steps: points of the Gauss-Legendre quadrature; each costs a forward and a backward pass.

    Source: Sundararajan et al. 2017, equation 1.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False))
    >>> images = torch.rand(3, 1, 2, 2)
    >>> maps = IntegratedGradients(steps=8)(model, images, torch.tensor([0, 0, 0]))
    >>> torch.allclose(maps.sum((1, 2, 3)), model(images)[:, 0], atol=1e-5)
    True
    """

    steps: int = 50

    def __post_init__(self):
        super().__post_init__()
        check_count(self.steps, "steps")

    def explain(self, score: Score, images: Tensor, origin: Tensor, random: Randomness) -> Tensor:
        return integrate(score, images, origin, self.steps)


def integrate(score: Score, images: Tensor, origin: Tensor, steps: int) -> Tensor:
    """Return integrated gradients (n, c, h, w) of at most `at_once` images.

    Several steps share a pass of the model where there is room.
    """
    captum = require("captum.attr", "attribution by integrated gradients")
    method, most = captum.IntegratedGradients(score), at_once(images)
    return method.attribute(images, origin, n_steps=steps, internal_batch_size=most)
