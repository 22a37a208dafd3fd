"""Distal adversarials: noise of which a model is sure (Schott et al. 2019, section 6; Nguyen et al. 2015)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from scotoma.attacks.core.active import Active
from scotoma.attacks.core.base import Attack
from scotoma.attacks.core.nearest import column
from scotoma.attacks.core.oracle import Oracle
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

CLEAR = 1e-3
"""Of the doubt that is allowed, the share by which an image must be surer: rounding in another batch cannot undo it."""


@dataclass(frozen=True)
class Posterior:
    """Probabilities from logits l: e^(sharpness l) + e^floor over their sum (Schott et al. 2019, eq. 8).

    Where every class lies below the floor they are all alike. As it stands it is the softmax.

    Args:
        sharpness: above 0.
        floor: in the units of the logits times `sharpness`; -inf is none.
    """

    sharpness: float = 1.0
    floor: float = -math.inf

    def log(self, logits: Tensor) -> Tensor:
        """Logarithms of the probabilities, (n, classes)."""
        evidence = self.sharpness * logits
        return torch.logaddexp(evidence, torch.full_like(evidence, self.floor)).log_softmax(1)

    def __call__(self, logits: Tensor) -> Tensor:
        """The probabilities, (n, classes)."""
        return self.log(logits).exp()

    def above_floor(self, logits: Tensor, classes: Tensor) -> Tensor:
        """The logarithm of what a class has of its own, log p without the floor above the line, (n,).

        It grows with p and is 0 where p is 1. Far below the floor, where p is flat, it still has the slope of the logit.
        """
        evidence = self.sharpness * logits
        total = torch.logaddexp(evidence, torch.full_like(evidence, self.floor)).logsumexp(1)
        return evidence.gather(1, classes[:, None]).squeeze(1) - total


@dataclass(frozen=True)
class Distal(Attack):
    """Climbs from noise to an image that the model takes for a class with confidence, by gradient ascent in the box [0, 1].

    Not near any image of the data: it shows what a model has learnt to be sure of. An image leaves as soon as it is sure, or when
    it cannot move. The authors' code takes at most 10,000 steps of gradient descent at rate 1 with the same momentum, and finite
    differences; here a step has the same length whatever the gradient's. Models that hide their gradient are climbed inside
    `BPDA` or `Estimated`. Deterministic.

    Args:
        confidence: the probability that ends the search, in (0, 1).
        steps: gradient steps at most.
        rate: length of a step, in L2, before momentum.
        momentum: share of the last move that is kept, in [0, 1). What the box holds back is not kept.
        posterior: the model's probabilities.

    Raises:
        InputError: one of them is out of its range.
    """

    confidence: float = 0.9
    steps: int = 200
    rate: float = 0.1
    momentum: float = 0.95
    posterior: Posterior = field(default_factory=Posterior)

    def __post_init__(self):
        if not 0 < self.confidence < 1:
            raise InputError(
                f"confidence {self.confidence:g} of distal images: want a probability between 0 and 1"
            )
        if self.steps < 0 or not 0 < self.rate < math.inf or not 0 <= self.momentum < 1:
            given = f"{self.steps} steps of length {self.rate:g} with momentum {self.momentum:g}"
            raise InputError(
                f"{given} to distal images: want at least 0 steps, a length above 0 and a momentum in [0, 1)"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        """The image that was surest on the way, (n, c, h, w).

        Args:
            model: to logits.
            images: where to begin: noise, (n, c, h, w).
            labels: the classes to climb to, int64 (n,).
            generator: not used.
        """
        found, surest = images.clone(), images.new_full((len(images),), -torch.inf)
        enough = math.log(self.confidence + CLEAR * (1 - self.confidence))
        state = _Climb(Oracle(model, labels), images, torch.zeros_like(images))
        for left in range(self.steps, -1, -1):
            if not len(state):
                break
            uphill, sure, _ = state.oracle.value_and_grad(
                state.images, partial(self._height, below=enough if left else -math.inf)
            )
            surer = sure > surest[state.rows]
            found[state.rows[surer]], surest[state.rows[surer]] = state.images[surer], sure[surer]
            largest = uphill.flatten(1).abs().amax(1).clamp_min(torch.finfo(uphill.dtype).tiny)
            uphill = uphill / column(largest)  # so that squares of very small slopes are not 0
            push = uphill * column(self.rate / uphill.flatten(1).norm(dim=1).clamp_min(1e-12))
            there = (state.images + self.momentum * state.velocity + push).clamp_(0, 1)
            state.velocity = there - state.images
            stuck = ~state.velocity.flatten(1).any(1)
            state.images = there
            state.drop((sure >= enough) | stuck)
        return found

    def _height(self, logits: Tensor, labels: Tensor, below: float) -> Tensor:
        """log p of the label, with the slope of what to climb; it has none from `below` on, which spares what estimates slopes."""
        sure = self.posterior.log(logits.detach()).gather(1, labels[:, None]).squeeze(1)
        climbed = self.posterior.above_floor(logits, labels)
        return sure + torch.where(sure < below, climbed - climbed.detach(), 0)


@dataclass
class _Climb(Active):
    images: Tensor
    velocity: Tensor
    """the last move"""
