"""Fast minimum-norm attack (Pintor et al. 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scotoma.attacks.active import Active
from scotoma.attacks.losses import GUARD, margin
from scotoma.attacks.oracle import Oracle
from scotoma.claim import Threat
from scotoma.randomness import Randomness

TINY = torch.finfo(torch.float32).tiny
HUGE = 1e30


@dataclass(frozen=True)
class FMN:
    """The smallest L-inf perturbation that fools, by steps along the margin's gradient inside a ball that adapts.

    Pintor et al. 2021, "Fast minimum-norm adversarial attacks through adaptive norm constraints", Algorithm 1, with two
    changes. Pixels at the edge of the box do not count in the gradient where it points outwards: on images of mostly black
    and white pixels half of it does, and no step is spent there. And before the first success the estimated distance is
    exceeded by gamma: inside the box it is a lower bound, which is approached but never reached.

    The attack is deterministic.

    Args:
        threat: its norm is minimised; eps bounds nothing here.
        steps: gradient steps, each one forward and one backward pass.
        alpha: first and last length of a step, in L2; a cosine between them.
        gamma: first and last share by which the ball shrinks and grows; a cosine between them.
    """

    threat: Threat
    steps: int = 100
    alpha: tuple[float, float] = (1.0, 0.01)
    gamma: tuple[float, float] = (0.05, 0.001)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, generator: Randomness | None = None) -> Tensor:
        """The nearest fooling images found, (n, c, h, w); unchanged where the model is wrong already or could not be fooled."""
        found = images.clone()
        infinity = torch.full((len(images),), torch.inf, device=images.device)
        state = _State(Oracle(model, labels), images, images.clone(), infinity, infinity)
        state.drop(state.oracle.fooled(images))
        for step in range(self.steps if len(state) else 0):
            alpha, gamma = (_cosine(ends, step / max(self.steps - 1, 1)) for ends in (self.alpha, self.gamma))
            gradient, loss, fooled = state.oracle.ascent(state.x, _guarded_margin)
            gradient.clamp_(state.x * -HUGE, (1 - state.x) * HUGE)
            distance = state.keep(fooled, found)
            state.resize(distance, gradient, loss, fooled, gamma)
            state.move(gradient, alpha)
        if len(state):
            state.keep(state.oracle.fooled(state.x), found)
        return found


@dataclass
class _State(Active):
    clean: Tensor
    x: Tensor
    eps: Tensor
    """radius of the ball, (n,)"""
    best: Tensor
    """the smallest distance that fools, (n,), infinite before the first"""

    def keep(self, fooled: Tensor, found: Tensor) -> Tensor:
        """Write the images that fool from nearer than before into `found`. Returns every image's distance."""
        distance = (self.x - self.clean).abs_().flatten(1).amax(1)
        better = fooled & (distance < self.best)
        if bool(better.any()):
            found[self.rows[better]] = self.x[better]
            self.best = torch.where(better, distance, self.best)
        return distance

    def resize(self, distance: Tensor, gradient: Tensor, loss: Tensor, fooled: Tensor, gamma: float) -> None:
        """Before the first success to where the first order puts the boundary, then below the best or outwards again."""
        steepness = gradient.abs().flatten(1).sum(1).clamp_min_(TINY)
        failed = torch.where(self.best.isfinite(), self.eps, distance - loss / steepness) * (1 + gamma)
        self.eps = torch.where(fooled, self.eps.minimum(self.best) * (1 - gamma), failed).clamp_(0, 1)

    def move(self, gradient: Tensor, alpha: float) -> None:
        """One step of L2 length alpha, projected on ball and box; none where the gradient is zero."""
        length = gradient.flatten(1).norm(dim=1).clamp_min_(TINY)
        eps = self.eps[:, None, None, None]
        x = self.x.addcmul_(gradient, (alpha / length)[:, None, None, None])
        self.x = x.clamp_(self.clean - eps, self.clean + eps).clamp_(0, 1)


def _guarded_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Positive where `fooled` holds, so that the estimate of the distance aims at what counts as a success."""
    return margin(logits, labels) - GUARD * logits.detach().abs().amax(1)


def _cosine(ends: tuple[float, float], progress: float) -> float:
    first, last = ends
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2
