"""DeepFool (Moosavi-Dezfooli et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.active import Active
from scotoma.attacks.losses import GUARD, fooled
from scotoma.attacks.nearest import HUGE, column, inwards, size
from scotoma.attacks.oracle import Oracle
from scotoma.claim import Threat
from scotoma.randomness import Randomness

DUAL = {"linf": "l1", "l2": "l2"}
"""The norm of the gradient that says how fast a margin can grow with the distance in each norm."""
SHORTEST = 1e-4
"""Step, so that an image on the boundary itself moves; the authors' code adds as much to each."""


@dataclass(frozen=True)
class DeepFool:
    """Steps to the boundary of the linearised model that is nearest, until one fools.

    Moosavi-Dezfooli et al. 2016, "DeepFool: a simple and accurate method to fool deep neural networks", Algorithm 2 for L2 and
    their section 3.3 for L-inf, with two changes. Pixels at the edge of the box do not count in the gradients where these point
    outwards, so that a step makes up for what the box cut off from the one before: a third of the steps, for distances that
    are equal on linear models and a hundredth longer on digits. And the first image that fools is followed back towards the
    clean one by bisection, so that the overshoot and the detours of the path cost nothing.

    A quick estimate: it takes the first way out, and minimum-norm attacks that go on searching find nearer images. An image
    leaves once it fools, or where no class has a gradient. The attack is deterministic.

    Args:
        threat: its norm is minimised; eps bounds nothing here.
        steps: the most linearisations, each one forward pass, a backward pass for each class but the label, and a forward pass
            at the point reached.
        classes: how many of the classes that are likeliest at the clean image are looked at, the label among them.
        overshoot: share by which a step exceeds the distance to the boundary.
        halvings: of the way between clean and fooling image, each a forward pass.
    """

    norms: ClassVar = ("linf", "l2")
    threat: Threat
    steps: int = 50
    classes: int = 10
    overshoot: float = 0.02
    halvings: int = 10

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, generator: Randomness | None = None) -> Tensor:
        """Fooling images, (n, c, h, w); unchanged where the model is wrong already or could not be fooled."""
        found, oracle = images.clone(), Oracle(model, labels)
        if not len(images):
            return found
        logits = oracle.logits(images)
        likely = logits.scatter(1, labels[:, None], -torch.inf).argsort(dim=1, descending=True, stable=True)
        state = _State(oracle, images, likely[:, : min(self.classes, logits.shape[1]) - 1])
        state.drop(fooled(logits, labels))
        for _ in range(self.steps if state.classes.shape[1] else 0):
            if len(state):
                self._step(state)
            if len(state):
                won = state.oracle.fooled(state.x)
                found[state.rows[won]] = state.x[won]
                state.drop(won)
        return self._shorten(oracle, images, found)

    def _step(self, state: _State) -> None:
        """To the nearest of the linearised boundaries; images that have none leave."""
        norm = self.threat.norm
        slopes, leads, _ = state.oracle.jacobian(state.x, state.leads)
        n, k = leads.shape
        steepness = size(inwards(slopes, state.x[:, None]).flatten(0, 1), DUAL[norm]).view(n, k)
        distances = (-leads / steepness).nan_to_num_(torch.inf).masked_fill_(steepness == 0, torch.inf)
        distance, nearest = distances.min(1)
        rows = torch.arange(n, device=nearest.device)
        slope, steepness = slopes[rows, nearest], steepness[rows, nearest]
        direction = slope.sign_() if norm == "linf" else slope.div_(column(steepness))
        length = ((1 + self.overshoot) * distance).clamp_(SHORTEST, HUGE)
        state.x = state.x.addcmul(direction.nan_to_num_(0), column(length)).clamp_(0, 1)
        state.drop(distance.isinf())

    def _shorten(self, oracle: Oracle, images: Tensor, found: Tensor) -> Tensor:
        """The images found, with those that moved as near to the clean ones, on the line between, as bisection gets them."""
        rows = (found != images).flatten(1).any(1).nonzero().squeeze(1)
        if not len(rows):
            return found
        oracle, clean, far = oracle.narrow(rows), images[rows], found[rows]
        near, low, high = far, torch.zeros(len(rows), device=far.device), torch.ones(len(rows), device=far.device)
        for _ in range(self.halvings):
            middle = (low + high) / 2
            probe = torch.lerp(clean, far, column(middle))
            won = oracle.fooled(probe)
            low, high = torch.where(won, low, middle), torch.where(won, middle, high)
            near = torch.where(column(won), probe, near)
        found[rows] = near
        return found


@dataclass
class _State(Active):
    x: Tensor
    classes: Tensor
    """the classes that are looked at, int64 (n, k)"""

    def leads(self, logits: Tensor, labels: Tensor) -> Tensor:
        """By how much each class beats the label, (n, k), beyond the guard, short of which an image does not count as fooled."""
        lead = logits.gather(1, self.classes) - logits.gather(1, labels[:, None])
        return lead - GUARD * logits.detach().abs().amax(1, keepdim=True)
