"""The smallest L2 perturbation: DDN, and then restarts towards the nearest classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scotoma.attacks.core.losses import margin
from scotoma.attacks.core.nearest import cosine, size, soft_margin
from scotoma.attacks.core.oracle import Loss, Oracle
from scotoma.attacks.core.restarts import Aimed, Restarted
from scotoma.attacks.ddn import DDN, Sphere, descend, stretch
from scotoma.utils.random import Randomness

WIDE = 1.5
"""Radius of a restart's first sphere, in units of the smallest perturbation so far."""
GAMMA = (0.1, 0.001)
"""First and last share by which a restart's sphere shrinks and grows: it begins near where it ends."""


@dataclass
class _State(Sphere, Aimed):
    """A sphere, and the classes to head for."""


@dataclass(frozen=True)
class MinL2(Restarted[_State]):
    """Minimum-norm L2 attack: DDN towards whichever class leads, then towards the nearest classes one after the other.

    A restart begins at a random point of a sphere somewhat wider than the perturbation found, and closes in again as DDN does
    (`attacks.ddn`). At the same cost it finds nearer images than DDN with more steps does (docs/log.md).

    Args:
        norm: "l2".
        steps: gradient steps in all, each a forward and a backward pass; the passes that order the classes count as well.
        restarts: how many of the searches go towards one wrong class, the nearest first; they come after one towards whichever
            class leads, which gets the other steps.
        restart_steps: gradient steps of each restart.
        until: an image leaves once its perturbation is smaller than this; 0 searches to the end.
    """

    id: ClassVar[str] = "min-l2"
    norms: ClassVar = ("l2",)
    steps: int = 240
    restarts: int = 2
    restart_steps: int = 55
    until: float = 0.0

    def _begin(self, oracle: Oracle, random: Randomness, images: Tensor, likely: Tensor) -> _State:
        nothing = images.new_full((len(images),), torch.inf)
        diameter = size(torch.ones_like(images), "l2")
        return _State(
            oracle,
            images,
            images.clone(),
            nothing,
            random,
            likely,
            oracle.labels,
            diameter,
            diameter,
        )

    def _search(self, state: _State, steps: int, loss: Loss, found: Tensor) -> None:
        if loss is margin:
            descend(
                state,
                steps,
                lambda progress: soft_margin(cosine(DDN.softness, progress)),
                DDN.alpha,
                DDN.gamma,
                found,
                self.until,
            )
            return
        state.eps = (WIDE * state.best).minimum(state.diameter)
        state.x = (
            stretch(state.random.normal(state.clean), state.clean, state.eps)
            .add_(state.clean)
            .clamp_(0, 1)
        )
        descend(state, steps, lambda _: loss, DDN.alpha, GAMMA, found, self.until)
