"""The smallest L2 perturbation: DDN, then restarts towards the nearest classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scotoma.attacks.core.base import from_zero
from scotoma.attacks.core.losses import margin
from scotoma.attacks.core.nearest import cosine, size, soft_margin
from scotoma.attacks.core.oracle import Loss, Oracle
from scotoma.attacks.core.restarts import Aimed, Restarted
from scotoma.attacks.ddn import DDN, Sphere, descend, stretch
from scotoma.utils.random import Randomness

WIDE = 1.5
"""Radius of a restart's first sphere, in units of the smallest perturbation so far."""
GAMMA = (0.1, 0.001)
"""First and last relative change of a restart's sphere, which begins near where it ends."""


@dataclass
class _State(Sphere, Aimed):
    """A sphere, and the classes to search towards."""


@dataclass(frozen=True)
class MinL2(Restarted[_State]):
    """Minimum-norm L2 attack: DDN towards the leading class, then towards the nearest classes.

    A restart begins at a random point of a sphere somewhat wider than the best perturbation and
    shrinks it as `DDN` does. At equal cost it finds nearer images than DDN (docs/log.md).

    Args:
        norm: "l2".
        steps: gradient steps in all, each a forward and a backward pass, including the passes that
            rank the classes.
        restarts: searches towards one wrong class each, the nearest first, after the one towards
            the leading class, which gets the other steps.
        restart_steps: gradient steps of each restart.
        until: an image leaves once its perturbation is smaller; 0 searches to the end.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> MinL2("l2", 100, restart_steps=20)(torch.nn.Flatten(), images, labels).round(decimals=2)
    tensor([[[[0.5000, 0.5000]]]])
    """

    id: ClassVar[str] = "min-l2"
    norms: ClassVar = ("l2",)
    steps: int = 240
    restarts: int = from_zero(2)
    restart_steps: int = 55
    until: float = 0.0

    def _begin(self, oracle: Oracle, random: Randomness, images: Tensor, targets: Tensor) -> _State:
        nothing = images.new_full((len(images),), torch.inf)
        diameter = size(torch.ones_like(images), "l2")
        searched = images, images.clone(), nothing, random, targets, oracle.labels
        return _State(oracle, *searched, diameter, diameter)

    def _search(self, state: _State, steps: int, loss: Loss, adversarial: Tensor) -> None:
        if loss is margin:

            def soft(progress: float) -> Loss:
                return soft_margin(cosine(DDN.softness, progress))

            descend(state, steps, soft, DDN.alpha, DDN.gamma, adversarial, self.until)
            return
        state.eps = (WIDE * state.best).minimum(state.diameter)
        delta = stretch(state.random.normal(state.clean), state.clean, state.eps)
        state.x = delta.add_(state.clean).clamp_(0, 1)
        descend(state, steps, lambda _: loss, DDN.alpha, GAMMA, adversarial, self.until)
