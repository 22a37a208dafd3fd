"""DeepFool (Moosavi-Dezfooli et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.active import Active
from scotoma.attacks.core.base import MinimumNormAttack, from_zero
from scotoma.attacks.core.losses import GUARD, fooled, wrong_logits
from scotoma.attacks.core.nearest import DUAL, HUGE, column, inwards, shortened, size
from scotoma.attacks.core.oracle import Oracle
from scotoma.utils.logits import magnitude
from scotoma.utils.random import Randomness

SHORTEST = 1e-4
"""Least step, so that an image on the boundary moves; the authors' code adds as much to each."""


@dataclass(frozen=True)
class DeepFool(MinimumNormAttack):
    """Steps to the nearest boundary of the linearised model, until one fools.

    Moosavi-Dezfooli et al. 2016, "DeepFool: a simple and accurate method to fool deep neural
    networks", Algorithm 2 for L2 and section 3.3 for L-inf, with three changes. Pixels at the edge
    of the box are omitted from gradients that point outwards: a third of the steps suffices. The
    first fooling image is moved towards the clean one by bisection, so that overshoot and detours
    cost nothing. Then the search returns to the foot of the perpendicular from the clean image on
    the boundary as linearised there (Abdollahpoorrostam et al. 2024, "SuperDeepFool", in L2).

    It is a quick estimate: minimum-norm attacks that keep searching find nearer images.
    Deterministic.

    Args:
        norm: "linf" or "l2", the norm to minimise.
        steps: maximum number of linearisations, each a forward pass, a backward pass for each class
            but the label, and a forward pass at the next point.
        classes: number of classes to consider, likeliest first, including the label.
        overshoot: share by which a step exceeds the distance to the boundary.
        halvings: bisections between clean and fooling image, each a forward pass.
        returns: maximum number of returns to the foot; an image that comes no nearer leaves.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> DeepFool("linf")(nn.Flatten(), images, labels).round(decimals=2)
    tensor([[[[0.5000, 0.5000]]]])
    """

    id: ClassVar[str] = "deepfool"
    norms: ClassVar = ("linf", "l2")
    steps: int = 50
    classes: int = 10
    overshoot: float = from_zero(0.02)
    halvings: int = from_zero(10)
    returns: int = from_zero(3)

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        adversarial, oracle = images.clone(), Oracle(model, labels)
        if not len(images):
            return adversarial
        logits = oracle.logits(images)
        ranking = wrong_logits(logits, labels).argsort(dim=1, descending=True, stable=True)
        state = _State(oracle, images, ranking[:, : min(self.classes, logits.shape[1]) - 1])
        state.drop(fooled(logits, labels))
        self._search(state, adversarial)
        oracle = oracle.select((adversarial != images).flatten(1).any(1))
        rows = oracle.rows
        adversarial[rows] = shortened(oracle, images[rows], adversarial[rows], self.halvings)
        for _ in range(self.returns):
            if not len(oracle):
                break
            rows, candidates = oracle.rows, images.clone()
            self._search(self._foot(oracle, images[rows], adversarial[rows]), candidates)
            nearer = shortened(oracle, images[rows], candidates[rows], self.halvings)
            before, after = (
                size(each - images[rows], self.norm) for each in (adversarial[rows], nearer)
            )
            won = (after > 0) & (after < before)
            adversarial[rows[won]] = nearer[won]
            oracle = oracle.select(won)
        return adversarial

    def _search(self, state: _State, adversarial: Tensor) -> None:
        """Step until an image fools, and write it into `adversarial`."""
        for _ in range(self.steps if state.classes.shape[1] else 0):
            if len(state):
                self._step(state)
            if len(state):
                state.finish(state.oracle.fooled(state.x), state.x, adversarial)

    def _step(self, state: _State) -> None:
        """Step to the nearest linearised boundary; images that have none leave."""
        slopes, leads, _ = state.oracle.jacobian(state.x, state.leads)
        n, k = leads.shape
        slopes = inwards(slopes, state.x[:, None])
        steepness = size(slopes.flatten(0, 1), DUAL[self.norm]).view(n, k)
        distances = (
            (-leads / steepness).nan_to_num_(torch.inf).masked_fill_(steepness == 0, torch.inf)
        )
        distance, nearest = distances.min(1)
        rows = torch.arange(n, device=nearest.device)
        state.x = self._beyond(state.x, slopes[rows, nearest], steepness[rows, nearest], distance)
        state.drop(distance.isinf())

    def _beyond(self, x: Tensor, slope: Tensor, steepness: Tensor, distance: Tensor) -> Tensor:
        """Move `x` by `distance` (n,) and the overshoot along the steepest direction, inside the
        box."""
        direction = slope.sign() if self.norm == "linf" else slope / column(steepness)
        length = ((1 + self.overshoot) * distance).clamp_(SHORTEST, HUGE)
        return x.addcmul(direction.nan_to_num_(0), column(length)).clamp_(0, 1)

    def _foot(self, oracle: Oracle, clean: Tensor, adversarial: Tensor) -> _State:
        """Start a search at the nearest point of the boundary linearised at `adversarial`."""
        leading = wrong_logits(oracle.logits(adversarial), oracle.labels).argmax(1, keepdim=True)
        state = _State(oracle, adversarial, leading)
        slopes, leads, _ = oracle.jacobian(adversarial, state.leads)
        slope = inwards(slopes[:, 0], clean)
        steepness = size(slope, DUAL[self.norm])
        distance = ((slope * (adversarial - clean)).flatten(1).sum(1) - leads[:, 0]) / steepness
        state.x = self._beyond(clean, slope, steepness, distance)
        return state


@dataclass
class _State(Active):
    x: Tensor
    classes: Tensor
    """classes to consider, int64 (n, k)"""

    def leads(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the classes' logits minus the label's, (n, k), less the guard of `fooled`."""
        lead = logits.gather(1, self.classes) - logits.gather(1, labels[:, None])
        return lead - GUARD * magnitude(logits.detach())[:, None]
