"""Images and a model whose robustness is a known function of contrast and background."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from scotoma.attacks.min_linf import MinLinf
from scotoma.data.dataset import ArraySplit, Dataset, from_splits
from scotoma.probes.base import Settings
from scotoma.threat import Threat

BLACK, RANGE = 0.3, 0.4
WIDTH = 0.08


def quadrants(low: float, n: int = 100) -> Dataset:
    """Images of four even quadrants: black (0.3), white (0.7), a mark and grey (0.5).

    The mark lies above grey in class 1 and below it in class 0, by a share of the range that runs
    evenly from `low` to 0.5.
    """
    labels = np.arange(n) % 2
    share = np.linspace(low, 0.5, n) * np.where(labels, 1, -1)
    images = np.full((n, 1, 16, 16), 0.5, np.float32)
    images[:, :, :8, :8], images[:, :, :8, 8:] = BLACK, BLACK + RANGE
    images[:, :, 8:, :8] += (RANGE * share)[:, None, None, None]
    return from_splits("quadrants", None, ArraySplit(images, labels, "quadrants"))


class Hole(nn.Module):
    """Reads (alpha, beta) from the quadrants, and where the mark lies between black and white.

    Near `centre` it also uses the grey quadrant, with weight `depth`, which is no evidence. To
    first order, an image whose mark is a share p of the range away from grey is fooled by alpha·eps
    if p is at most 2 eps (1 + depth h) / 0.4, with h the height of the hole: 1 at its centre, a
    Gaussian around it.
    """

    def __init__(self, depth: float, centre: tuple[float, float] = (0.7, 0.05)):
        super().__init__()
        self.depth, self.centre = depth, centre

    def forward(self, images: Tensor) -> Tensor:
        black, white = images[:, 0, 2:6, 2:6].mean((1, 2)), images[:, 0, 2:6, 10:14].mean((1, 2))
        mark, grey = images[:, 0, 10:14, 2:6].mean((1, 2)), images[:, 0, 10:14, 10:14].mean((1, 2))
        contrast = (white - black).clamp(min=0.01)
        alpha, beta = contrast / RANGE, (white + black - 1) / 2
        height = torch.exp(
            -((alpha - self.centre[0]) ** 2 + (2 * (beta - self.centre[1])) ** 2) / (2 * WIDTH**2)
        )
        position = (
            (mark - black) / contrast
            - 0.5
            + self.depth * height * ((grey - black) / contrast - 0.5)
        )
        return torch.stack([-position, position], 1)

    def falls(self, alpha: float, beta: float, eps: float) -> float:
        """The largest p that falls."""
        squared = (alpha - self.centre[0]) ** 2 + (2 * (beta - self.centre[1])) ** 2
        return 2 * eps * (1 + self.depth * math.exp(-squared / (2 * WIDTH**2))) / RANGE


class QuickSettings(Settings):
    """Settings whose attack takes as few steps as a `Hole`, which is nearly linear, needs."""

    def make_attack(self, threat: Threat, until: float = 0.0) -> MinLinf:
        return MinLinf("linf", steps=30, restarts=0, until=until)
