"""Distal adversarials: noise that a model classifies with confidence (Schott et al. 2019, section
6)."""

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
"""Margin in confidence, as a share of the doubt allowed, which rounding in another batch cannot
undo."""


@dataclass(frozen=True)
class Posterior:
    """Probabilities e^(sharpness l) + e^floor over their sum (Schott et al. 2019, eq. 8).

    Here l are the logits. All classes below the floor are nearly equal. The default is the softmax.

    Args:
        sharpness: above 0.
        floor: in the units of the logits times `sharpness`; -inf is none.

    >>> Posterior()(torch.tensor([[0.0, 0.0]]))
    tensor([[0.5000, 0.5000]])
    """

    sharpness: float = 1.0
    floor: float = -math.inf

    def log(self, logits: Tensor) -> Tensor:
        """Return the logarithms of the probabilities, (n, classes)."""
        evidence = self.sharpness * logits
        return torch.logaddexp(evidence, torch.full_like(evidence, self.floor)).log_softmax(1)

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the probabilities, (n, classes)."""
        return self.log(logits).exp()

    def above_floor(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Return log p of the labels without the floor in the numerator, (n,).

        It grows with p and is 0 where p is 1. Far below the floor, where p is flat, it still has
        the slope of the logit.
        """
        evidence = self.sharpness * logits
        total = torch.logaddexp(evidence, torch.full_like(evidence, self.floor)).logsumexp(1)
        return evidence.gather(1, classes[:, None]).squeeze(1) - total


@dataclass(frozen=True)
class Distal(Attack):
    """Gradient ascent from noise to an image that the model assigns confidently to a class.

    It shows what a model classifies with confidence far from any data. An image leaves once the
    model is confident, or when it cannot move. The authors' code takes up to 10,000 descent steps
    at rate 1 with the same momentum, and finite differences; here all steps have the same length.
    Wrap it in `BPDA` or `Estimated` for models that hide their gradient. Deterministic.

    The image at which the model was most confident is returned, whether confident enough or not.

    Args:
        confidence: the probability that ends the search, in (0, 1).
        steps: maximum number of gradient steps.
        rate: L2 length of a step, before momentum.
        momentum: share of the last change that is kept, in [0, 1), after clipping to the box.
        posterior: the model's probabilities.

    Raises:
        InputError: a setting is out of range.

    >>> image = torch.full((1, 1, 1, 2), 0.5)
    >>> Distal(confidence=0.7)(nn.Flatten(), image, torch.tensor([0])).flatten().diff() < -0.8
    tensor([True])
    """

    confidence: float = 0.9
    steps: int = 200
    rate: float = 0.1
    momentum: float = 0.95
    posterior: Posterior = field(default_factory=Posterior)

    def __post_init__(self):
        if not 0 < self.confidence < 1:
            raise InputError(f"confidence={self.confidence:g}: give a probability between 0 and 1")
        if self.steps < 0 or not 0 < self.rate < math.inf or not 0 <= self.momentum < 1:
            settings = f"steps={self.steps}, rate={self.rate:g}, momentum={self.momentum:g}"
            raise InputError(f"{settings}: give steps >= 0, a rate above 0, a momentum in [0, 1)")

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        """Return the images of highest confidence; `images` are noise, `labels` the targets."""
        adversarial, surest = images.clone(), images.new_full((len(images),), -torch.inf)
        enough = math.log(self.confidence + CLEAR * (1 - self.confidence))
        state = _Climb(Oracle(model, labels), images, torch.zeros_like(images))
        for steps_left in range(self.steps, -1, -1):
            if not len(state):
                break
            uphill, sure, _ = state.oracle.value_and_grad(
                state.images, partial(self._height, below=enough if steps_left else -math.inf)
            )
            surer = sure > surest[state.rows]
            adversarial[state.rows[surer]] = state.images[surer]
            surest[state.rows[surer]] = sure[surer]
            largest = uphill.flatten(1).abs().amax(1).clamp_min(torch.finfo(uphill.dtype).tiny)
            uphill = uphill / column(largest)  # so that squares of very small slopes are not 0
            push = uphill * column(self.rate / uphill.flatten(1).norm(dim=1).clamp_min(1e-12))
            there = (state.images + self.momentum * state.velocity + push).clamp_(0, 1)
            state.velocity = there - state.images
            stuck = ~state.velocity.flatten(1).any(1)
            state.images = there
            state.drop((sure >= enough) | stuck)
        return adversarial

    def _height(self, logits: Tensor, labels: Tensor, below: float) -> Tensor:
        """Return log p of the label with the slope to climb; without one from `below` on, which
        saves the estimation of slopes."""
        sure = self.posterior.log(logits.detach()).gather(1, labels[:, None]).squeeze(1)
        climbed = self.posterior.above_floor(logits, labels)
        return sure + torch.where(sure < below, climbed - climbed.detach(), 0)


@dataclass
class _Climb(Active):
    images: Tensor
    velocity: Tensor
    """last change"""
