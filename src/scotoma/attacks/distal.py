"""Distal adversarials: noise of which a model is sure (Schott et al. 2019, section 6; Nguyen et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scotoma.attacks.losses import towards
from scotoma.attacks.oracle import Oracle

Posterior = Callable[[Tensor], Tensor]
"""Logits (n, classes) to probabilities (n, classes)."""


@dataclass(frozen=True)
class Distal:
    """Climbs from noise to an image that the model takes for a class with confidence: gradient ascent on log p(class) in the box.

    Schott et al. 2019 take momentum of 0.95 and steps of length 1; images that are sure enough leave.

    Args:
        confidence: the probability that ends the search.
        steps: gradient steps at most.
        rate: length of a step, in L2, before momentum.
        momentum: share of the last step that is kept.
    """

    confidence: float = 0.9
    steps: int = 200
    rate: float = 0.1
    momentum: float = 0.95

    def __call__(
        self, model: nn.Module, noise: Tensor, targets: Tensor, posterior: Posterior | None = None
    ) -> tuple[Tensor, Tensor]:
        """Images (n, c, h, w), and how sure the model is of the targets there, (n,).

        Args:
            model: to logits.
            noise: where to begin, (n, c, h, w).
            targets: int64 (n,).
            posterior: the model's own probabilities; None is a softmax of its logits.
        """
        posterior = posterior or (lambda logits: logits.softmax(1))
        x, sure = noise.clone(), noise.new_zeros(len(noise))
        oracle = Oracle(model, targets)
        velocity = torch.zeros_like(noise)
        for step in range(self.steps + 1):
            seen: list[Tensor] = []

            def climb(logits: Tensor, labels: Tensor, seen: list[Tensor] = seen) -> Tensor:
                seen.append(posterior(logits.detach()).gather(1, labels[:, None]).squeeze(1))
                return towards(logits, labels)

            gradient = oracle.ascent(x[oracle.rows], climb).gradient
            sure[oracle.rows] = seen[0]
            still = seen[0] < self.confidence
            oracle, velocity, gradient = oracle.narrow(still), velocity[still], gradient[still]
            if not len(oracle) or step == self.steps:
                break
            length = gradient.flatten(1).norm(dim=1).clamp_min(1e-30)[:, None, None, None]
            velocity = self.momentum * velocity + gradient * (self.rate / length)
            x[oracle.rows] = (x[oracle.rows] + velocity).clamp_(0, 1)
        return x, sure
