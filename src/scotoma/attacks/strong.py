"""The audit attack: several attacks in turn, the best result for each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.adaptive.adapted import SEARCHES, Adapted
from scotoma.attacks.adaptive.look import IMAGES
from scotoma.attacks.adaptive.plan import make_plan
from scotoma.attacks.apgd import APGD, APGDT
from scotoma.attacks.core.base import BoundedAttack, share_of_passes
from scotoma.attacks.core.batch import Batch, changed
from scotoma.attacks.core.nearest import size
from scotoma.attacks.min_l2 import MinL2
from scotoma.attacks.min_linf import MinLinf
from scotoma.attacks.square import Square
from scotoma.threat import TOLERANCE, Threat
from scotoma.utils.random import Randomness

STREAM = -3
"""Stream of random numbers for the look; the attacks have those from 0."""
QUERIES, FEWEST_QUERIES = 2000, 250
"""Queries of random search, and the fewest for a slow model."""
TARGETS, FEWEST_TARGETS = 9, 3
"""Wrong classes towards which targeted APGD climbs, and the fewest for a slow model."""
RESTARTS = 5
"""Random starts of APGD on the cross-entropy: each fools up to 2 of 31 images that withstand the
rest on a TRADES model at contrast 0.8 (docs/log.md)."""
NEAR = 1.05
"""Factor of eps up to which images that withstand the search are attacked further: the other
attacks fooled hardly any image whose smallest perturbation was larger (docs/log.md)."""
GATED_NEAR = 1.5
"""Factor of eps in place of `NEAR` for a model that compares or rounds: behind MeanSparse attacks
fooled images at 1.2, behind a stiff flow at 1.44 times eps (docs/log.md)."""


@dataclass(frozen=True)
class Strong(BoundedAttack):
    """Minimum-norm search on every image, then attacks at eps on those that barely withstand it.

    `min-linf` or `min-l2` gives each image's smallest perturbation. Targeted APGD then attacks
    images that barely withstand eps. In L-inf, random search over squares follows, from the
    smallest perturbation shortened to eps: it crosses the flat steps that training at a large eps
    leaves. APGD on the cross-entropy is last: its random starts fool some images that nothing else
    does.

    It looks at the model first (`attacks.adaptive`), with about 100 passes of 24 images. If the
    exact gradient misleads, it attacks as `Adapted` does instead.

    The closest fooling images are returned, even beyond eps; images without one are unchanged.

    Args:
        threat: L-inf or L2; its norm is minimised, its eps is where further attacks concentrate.
        until: a smaller size that matters as much as eps: images are attacked further at both, and
            left once their perturbation is smaller; 0 finds each image's smallest.
        look: whether to look at the model; if not, it follows the exact gradient.
        share: share of the targets and random starts of APGD and of the queries of random search,
            for a slow model; the search for the smallest perturbation is never shortened.

    >>> import torch
    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> Strong("linf:0.2")(nn.Flatten(), images, labels).round(decimals=2)
    tensor([[[[0.5000, 0.5000]]]])
    """

    id: ClassVar[str] = "strong"
    norms: ClassVar = ("linf", "l2")
    until: float = 0.0
    look: bool = True
    share: float = share_of_passes()

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        batch = Batch(model, images, labels, random)
        near = NEAR
        if self.look:
            with torch.no_grad():
                correct = (model(images).argmax(1) == labels).nonzero().squeeze(1)
            few = batch.fork(STREAM).select(correct[:IMAGES])
            plan = make_plan(few.model, few.images, few.labels, self.threat, few.random)
            if not plan.clean:
                return batch.attacked(Adapted(self.threat, self.until, plan, self.share))
            if plan.look and plan.look.gates:
                near = GATED_NEAR
        adversarial = batch.fork(0).attacked(self._search)
        balls = [self.threat]
        if 0 < self.until < self.threat.eps:
            balls.append(Threat(self.norm, self.until))
        attacks = [attack for ball in balls for attack in self._further(ball)]
        # the cross-entropy fools some images that margins do not, where a shift has flattened them
        attacks += [APGD(ball, restarts=self._left(RESTARTS, 1)) for ball in balls]
        for number, attack in enumerate(attacks, start=1):
            eps = attack.threat.eps
            distance = size(adversarial - images, self.norm)
            barely = (distance > eps + TOLERANCE) & (distance < near * eps)
            rows = ((distance == 0) | barely).nonzero().squeeze(1)
            if not len(rows):
                continue
            part = batch.fork(number).select(rows)
            start = None if attack.gradients else adversarial[rows]
            inside = part.attacked(attack, start)
            fooled = changed(inside, part.images)
            adversarial[rows[fooled]] = inside[fooled]
        return adversarial

    @property
    def scaled(self) -> list[str]:
        """Effort within eps that remains after `share`, for a report."""
        return [
            f"{self._left(TARGETS, FEWEST_TARGETS)} of {TARGETS} targets of APGD",
            f"{self._left(QUERIES, FEWEST_QUERIES):,} of {QUERIES:,} queries of random search",
            f"{self._left(RESTARTS, 1)} of {RESTARTS} random starts of APGD",
        ]

    def _left(self, passes: int, fewest: int) -> int:
        """Return what `share` leaves of a number of passes."""
        return max(fewest, round(self.share * passes))

    @property
    def _search(self) -> MinLinf | MinL2:
        restarts = {"linf": (4, 40), "l2": (2, 55)}[self.norm]
        return SEARCHES[self.norm](self.norm, 240, *restarts, until=self.until)

    def _further(self, ball: Threat) -> list[BoundedAttack]:
        """Return the attacks inside a ball that ascend margins."""
        targeted = APGDT(ball, steps=50, targets=self._left(TARGETS, FEWEST_TARGETS))
        squares = Square(ball, queries=self._left(QUERIES, FEWEST_QUERIES))
        return [targeted, squares] if ball.norm == "linf" else [targeted]
