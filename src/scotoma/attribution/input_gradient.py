"""The input times its gradient."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from scotoma.attribution.method import Attribution, Score
from scotoma.utils.optional import require
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class InputXGradient(Attribution):
    """The difference from the baseline times the gradient at the image, in one pass.

    The baseline is the zero of the input: "black" gives the image times its gradient, the channel
    means of the data give the standardised image times its gradient.

    Source: Shrikumar et al. 2016.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> images, labels = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])
    >>> InputXGradient()(model, images, labels).shape
    torch.Size([3, 1, 2, 2])
    """

    def explain(self, score: Score, images: Tensor, origin: Tensor, random: Randomness) -> Tensor:
        captum = require("captum.attr", "attribution input-x-gradient")
        method = captum.InputXGradient(lambda offset: score(offset + origin))
        return method.attribute((images - origin).requires_grad_())
